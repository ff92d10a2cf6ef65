/** registerFlashBackend: which backend it starts, what its device has, and what it says when that is lost. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import {flashAttention, registerFlashBackend} from '../src/index.js';
import {restoreBackendAfterwards} from './backends.js';

declare const TEST_ENVIRONMENTS: string[];

const hasBackend = (name: string) => TEST_ENVIRONMENTS.includes(name);

describe('registerFlashBackend', () => {
  restoreBackendAfterwards();

  it('takes the preferred backend', async () => {
    expect(await registerFlashBackend({preferred: 'cpu'})).toBe('cpu');
    expect(tf.getBackend()).toBe('cpu');
    expect(await registerFlashBackend({preferred: 'webgl'})).toBe('webgl');
    expect(tf.getBackend()).toBe('webgl');
  });

  it('refuses a name that is no backend', async () => {
    const preferred = 'metal' as 'cpu';
    await expectAsync(registerFlashBackend({preferred})).toBeRejectedWithError(
      "registerFlashBackend: preferred must be one of webgpu, webgl, cpu, got 'metal'.",
    );
  });

  it('goes on to the next best where WebGPU is missing', async () => {
    spyOnProperty(navigator, 'gpu').and.returnValue(undefined as unknown as GPU);
    const name = await registerFlashBackend();
    expect(name).toBe('webgl');
    expect(tf.getBackend()).toBe(name);
  });
});

if (hasBackend('webgpu')) {
  describe('registerFlashBackend on WebGPU', () => {
    restoreBackendAfterwards();

    it('makes a device with all that the adapter offers', async () => {
      expect(await registerFlashBackend()).toBe('webgpu');
      const adapter = (await navigator.gpu.requestAdapter({powerPreference: 'high-performance'})) as GPUAdapter;
      const {device} = tf.backend() as WebGPUBackend;
      expect([...device.features].filter((name) => !name.includes('experimental')).sort()).toEqual(
        [...adapter.features].filter((name) => !name.includes('experimental')).sort(),
      );
      for (const name of ['maxStorageBuffersPerShaderStage', 'maxBufferSize', 'maxStorageBufferBindingSize'] as const) {
        expect(device.limits[name]).withContext(name).toBe(adapter.limits[name]);
      }
    });

    it('can be called again, and keeps its device', async () => {
      await registerFlashBackend();
      const {device} = tf.backend() as WebGPUBackend;
      expect(await registerFlashBackend()).toBe('webgpu');
      expect((tf.backend() as WebGPUBackend).device).toBe(device);
    });

    it('never lets a lost device pass for zeros, and starts a new one', async () => {
      const onDeviceLost = jasmine.createSpy('onDeviceLost');
      await registerFlashBackend({onDeviceLost});
      const lost = tf.backend() as WebGPUBackend;
      const q = tf.ones<tf.Rank.R4>([1, 2, 9, 16]);
      const before = flashAttention(q, q, q);
      await before.data();
      const unread = flashAttention(q, q, q);
      lost.device.destroy();
      await lost.device.lost;
      await Promise.resolve();

      expect(onDeviceLost).toHaveBeenCalledOnceWith(jasmine.objectContaining({reason: 'destroyed'}));
      expect(() => flashAttention(q, q, q)).toThrowError(/The WebGPU device was lost/);
      await expectAsync(unread.data()).toBeRejected();
      expect(() => unread.dataSync()).toThrowError(/The WebGPU device was lost/);
      tf.dispose([q, before, unread]);

      expect(await registerFlashBackend()).toBe('webgpu');
      const again = tf.ones<tf.Rank.R4>([1, 2, 9, 16]);
      const output = flashAttention(again, again, again);
      expect((await output.data()).every((value) => Math.abs(value - 1) < 1e-5)).toBe(true);
      tf.dispose([again, output]);
    });

    it('refuses to replace a device that holds tensors', async () => {
      await registerFlashBackend();
      const stock = await stockBackend();
      const live = tf.ones([3]);
      await expectAsync(registerFlashBackend()).toBeRejectedWithError(
        /^registerFlashBackend: the running 'webgpu' backend holds tensors \(1\)/,
      );
      expect(tf.backend()).toBe(stock);
      live.dispose();
      expect(await registerFlashBackend()).toBe('webgpu');
    });
  });
}

/** A backend on a device that registerFlashBackend did not make. */
async function stockBackend(): Promise<tf.KernelBackend> {
  const adapter = (await navigator.gpu.requestAdapter()) as GPUAdapter;
  const device = await adapter.requestDevice();
  const Backend = Object.getPrototypeOf(tf.backend().constructor) as new (
    device: GPUDevice,
    info: GPUAdapterInfo,
  ) => WebGPUBackend;
  tf.removeBackend('webgpu');
  tf.registerBackend('webgpu', () => new Backend(device, adapter.info), 3);
  await tf.setBackend('webgpu');
  return tf.backend();
}
