/**
 * Bundled between this package's specs and TensorFlow.js's own, which must stay green beside it: adapts theirs to how
 * this run is configured, and leaves out what fails without this package too.
 */

/** [name of the suite, backend, name of the spec] that TensorFlow.js itself leaves out. */
const FAILS_UPSTREAM = [['softmax', 'webgpu', 'Propagates NaNs']];

const jasmineGlobals = globalThis as unknown as {describe: typeof describe; it: typeof it};
const {describe: describeSuite, it: specify} = jasmineGlobals;
const suites: string[] = [];

jasmineGlobals.describe = (name, specs) =>
  describeSuite(name, () => {
    suites.push(name);
    specs();
    suites.pop();
  });

jasmineGlobals.it = (name, body, timeout) => {
  const suite = suites.join(' ');
  const failsUpstream = FAILS_UPSTREAM.some(
    ([ofSuite, backend, spec]) => spec === name && suite.startsWith(`${ofSuite} ${backend}`),
  );
  if (failsUpstream || !body) return;
  specify(
    name,
    async () => {
      await (body as () => Promise<void> | void)();
      // Some of theirs only want that nothing throws.
      expect().nothing();
    },
    timeout,
  );
};
