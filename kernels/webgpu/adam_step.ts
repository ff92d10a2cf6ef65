/** The WebGPU kernel of Adam's step: all three results in one dispatch. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {type KernelConfig, type TensorInfo, util} from '@tensorflow/tfjs-core';
import {AdamStep, type AdamStepAttrs, type AdamStepInputs} from '../../src/kernel_names.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {type Binding, entryPoint, makeShader, type Shader} from './shader.js';

const THREADS = 256;

export const webgpuAdamStep: KernelConfig = {
  kernelName: AdamStep,
  backendName: 'webgpu',
  kernelFunc: (call): TensorInfo[] => {
    const backend = call.backend as WebGPUBackend;
    const inputs = call.inputs as AdamStepInputs;
    const {shape} = inputs.value;
    assertBufferFits(backend.device, 'fusedAdam', 'a weight', shape);
    const newTensor = () => backend.makeTensorInfo(shape, 'float32');
    const outputs = {newValue: newTensor(), newFirstMoment: newTensor(), newSecondMoment: newTensor()};
    const size = util.sizeFromShape(shape);
    const [element, width] = size % 4 === 0 ? (['vec4f', 4] as const) : (['f32', 1] as const);
    if (size > 0) {
      dispatch(backend, {
        key: `adam step ${element}`,
        makeShader: () => adamStepShader(element),
        tensors: {...inputs, ...outputs},
        uniforms: uniformsOf(size / width, call.attrs as unknown as AdamStepAttrs),
        workgroups: Math.ceil(size / width / THREADS),
      });
    }
    return Object.values(outputs);
  },
};

/** Fills the struct Params below, field by field. */
function uniformsOf(size: number, attrs: AdamStepAttrs): ArrayBuffer {
  const {learningRate, beta1, beta2, epsilon, correction1, correction2} = attrs;
  const numbers = Float32Array.of(
    0,
    beta1,
    1 - beta1,
    beta2,
    1 - beta2,
    learningRate / correction1,
    1 / correction2,
    epsilon,
  );
  new Uint32Array(numbers.buffer)[0] = size;
  return numbers.buffer;
}

function adamStepShader(element: 'f32' | 'vec4f'): Shader {
  const bind = (access: Binding['access'], names: string[]) => names.map((name) => ({name, access, element}) as const);
  return makeShader(
    [
      ...bind('read', ['value', 'gradient', 'firstMoment', 'secondMoment']),
      ...bind('read_write', ['newValue', 'newFirstMoment', 'newSecondMoment']),
    ],
    `
struct Params {
  size: u32,
  // How much of a moment stays, and how much of the gradient comes to it.
  stays1: f32,
  comes1: f32,
  stays2: f32,
  comes2: f32,
  // The learning rate and the factor of the second moment, with the corrections for moments that began at 0.
  rate: f32,
  factor2: f32,
  epsilon: f32,
}`,
    entryPoint(
      THREADS,
      `
  let index = workgroup * ${THREADS}u + localIndex;
  if (index >= params.size) { return; }
  let g = gradient[index];
  let first = params.stays1 * firstMoment[index] + params.comes1 * g;
  let second = params.stays2 * secondMoment[index] + params.comes2 * g * g;
  newValue[index] = value[index] - params.rate * first / (sqrt(params.factor2 * second) + params.epsilon);
  newFirstMoment[index] = first;
  newSecondMoment[index] = second;`,
    ),
  );
}
