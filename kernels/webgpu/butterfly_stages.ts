/**
 * How the factors of a pass are cut into stages. In a stage an invocation holds a few elements that the stage's factors
 * tie together, in registers; between stages elements change hands through workgroup memory.
 */

/** A factor's number among those of its stack, and which bit of an element's place in the tile tells its side in a pair. */
export interface StageStep {
  factor: number;
  bit: number;
}

export interface Stage {
  /** The bits in which the places of an invocation's elements differ, ascending. */
  bits: number[];
  steps: StageStep[];
}

/** Whether the invocations of the first and of the last stage read and write four neighbouring elements as one. */
export interface Ends {
  readsQuads: boolean;
  writesQuads: boolean;
}

/** Of runs of fewer than 8 elements, 32 bytes, memory delivers some in vain. */
const RUN_BITS = 3;

/**
 * The stages that cost least, each with at most `elementBits` bits. Next to memory invocations should be side by side
 * where the elements are that they read and write. Where the factors do not allow that, a stage without factors stands
 * there.
 *
 * @param tileBits log2 of the elements of a tile's row; at least elementBits
 */
export function butterflyStages(steps: StageStep[], elementBits: number, tileBits: number, ends: Ends): Stage[] {
  const stageOf = (group: StageStep[]) => ({bits: filled(bitsOf(group), elementBits, tileBits), steps: group});
  if (tileBits <= elementBits) return [stageOf(steps)];
  const counts = Array.from({length: elementBits + 1}, (_, i) => elementBits - i);
  const candidates = counts
    .flatMap((ofFirst) => counts.map((ofLast) => cut(steps, elementBits, ofFirst, ofLast)))
    .map((groups) => groups.map(stageOf))
    .map((stages) => ({stages, cost: costOf(stages, ends)}));
  const least = Math.min(...candidates.map(({cost}) => cost));
  return (candidates.find(({cost}) => cost === least) as (typeof candidates)[number]).stages;
}

/** Whether a stage's invocations hold four neighbouring elements. */
export const holdsQuads = ({bits}: Stage) => bits.length > 1 && bits[0] === 0 && bits[1] === 1;

/** What a stage's reads or writes cost, in exchanges: about, by what was measured on an H200. */
function costAtEnd(stage: Stage, inQuads: boolean, cost: {quads: number; alone: number}): number {
  const neighbours = stage.bits.filter((bit) => bit < RUN_BITS).length;
  if (neighbours === 0) return 0;
  if (inQuads && holdsQuads(stage)) return neighbours < RUN_BITS ? 0 : cost.quads;
  return neighbours === 1 ? cost.alone : 4;
}

function costOf(stages: Stage[], {readsQuads, writesQuads}: Ends): number {
  const read = costAtEnd(stages[0], readsQuads, {quads: 0.25, alone: 0.5});
  // What is written in parts of 32 bytes goes to memory twice; what is read so is met again in a cache.
  const written = costAtEnd(stages[stages.length - 1], writesQuads, {quads: 2, alone: 1});
  return stages.length - 1 + read + written;
}

const bitsOf = (steps: StageStep[]) => [...new Set(steps.map(({bit}) => bit))];

/**
 * Takes steps together from the front, as many as have `most` bits, those of the first and the last group `ofFirst` and
 * `ofLast`.
 */
function cut(steps: StageStep[], most: number, ofFirst: number, ofLast: number): StageStep[][] {
  const starts = steps.map((_, i) => i);
  const lastStart = starts.find((i) => bitsOf(steps.slice(i)).length <= ofLast) ?? steps.length;
  const groups: StageStep[][] = [[]];
  for (const step of steps.slice(0, lastStart)) {
    const group = groups[groups.length - 1];
    if (bitsOf([...group, step]).length <= (groups.length === 1 ? ofFirst : most)) group.push(step);
    else groups.push([step]);
  }
  return lastStart > 0 || ofFirst === 0 ? [...groups, steps.slice(lastStart)] : [steps.slice(lastStart)];
}

/** The bits, and the highest of the others, so that neighbouring invocations still hold neighbouring elements. */
function filled(bits: number[], elementBits: number, tileBits: number): number[] {
  const others = Array.from({length: tileBits}, (_, i) => tileBits - 1 - i).filter((bit) => !bits.includes(bit));
  return [...bits, ...others.slice(0, elementBits - bits.length)].sort((a, b) => a - b);
}
