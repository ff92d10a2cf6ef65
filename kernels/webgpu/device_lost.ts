/** Which devices are lost: work on one would silently give zeros, so kernels refuse it. */
const lostReasons = new WeakMap<GPUDevice, string>();
const watched = new WeakSet<GPUDevice>();

/** Remembers when the device is lost. Calling it again for the same device does nothing. */
export function watchDevice(device: GPUDevice): void {
  if (watched.has(device)) return;
  watched.add(device);
  void device.lost.then(({message, reason}) => lostReasons.set(device, message || reason));
}

/** Whether the device was lost since it is watched. */
export function isLost(device: GPUDevice): boolean {
  return lostReasons.has(device);
}

/** Throws if the device is known to be lost. */
export function assertAlive(device: GPUDevice): void {
  watchDevice(device);
  if (isLost(device)) throw new Error(`The WebGPU device was lost: ${lostReasons.get(device)}`);
}
