export async function registerFlashBackend(): Promise<string> {
  return 'cpu';
}
