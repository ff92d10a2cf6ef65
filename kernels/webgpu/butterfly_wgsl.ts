/**
 * WGSL of sweeps through factors of butterfly matrices. An invocation takes a few elements of several rows through the
 * factors of a stage in registers, so that each number of the twiddle that it loads serves all those rows; between stages
 * elements change hands through workgroup memory. On the way it may leave each factor's input in a buffer: the inputs on a
 * leg through the factors, and the gradients on a leg back through their conjugate transposes, are what the twiddle's
 * gradient is made of.
 */
import {factorSteps} from '../butterfly_sizes.js';
import {
  applyFactor,
  type FactorCode,
  held,
  loadMatrices,
  numberType,
  partNames,
  zeroBitFunction,
} from './butterfly_factors_wgsl.js';
import type {ButterflyPass} from './butterfly_passes.js';
import {butterflyStages, holdsQuads, type Stage, type StageStep} from './butterfly_stages.js';
import type {ButterflyTile} from './butterfly_tiles.js';
import {type Binding, entryPoint, makeShader, type Shader} from './shader.js';
import {lines, range} from './tile_wgsl.js';

/** What the code of a sweep depends on; the rest is in its uniforms. */
export interface SweepVariant {
  complex: boolean;
  blocks: number;
  /** Factors of a block: log2 of n. */
  factors: number;
  increasingStride: boolean;
  pass: ButterflyPass;
  tile: ButterflyTile;
  /** The ways through the factors, one after the other, each with rows of its own. */
  legs: LegVariant[];
}

export interface LegVariant {
  /** Goes through the factors from the last to the first, and multiplies by their transposes. */
  transposed: boolean;
  /** Multiplies by complex conjugates. */
  conjugated: boolean;
  /** Whether each stack has n columns of the source of its own. */
  splitSource: boolean;
  /** Whether the source and the target have fewer columns than the product; then there are zeros, and nothing is stored. */
  narrowSource: boolean;
  narrowTarget: boolean;
  /** Whether the rows of the source and the target are made of quads, four neighbouring elements. */
  sourceQuads: boolean;
  targetQuads: boolean;
  /** Whether each factor's input is stored. */
  saves: boolean;
  /** Whether what comes out is stored. */
  stores: boolean;
}

/** Filled by `sweepParams` in butterfly_sweep.ts. */
const paramsStruct = (legs: number) => `
struct Params {
  // Rows of this dispatch, and the number of the first one.
  rows: u32,
  firstRow: u32,
  stacks: u32,
  // Columns of each leg's buffers.
  ${lines(legs, (leg) => `sourceWidth${leg}: u32,\n  targetWidth${leg}: u32,`)}
}`;

/** A leg with its stages, in the order in which they are applied, and the buffers' elements. */
interface PlannedLeg extends LegVariant {
  stages: Stage[];
  readsQuads: boolean;
  writesQuads: boolean;
}

/** The storage buffers of a leg, and whether their elements are quads. */
type BoundLeg = Pick<LegVariant, 'saves' | 'stores'> & Partial<Pick<PlannedLeg, 'readsQuads' | 'writesQuads'>>;

/** How many storage buffers a sweep binds. */
export function sweepBuffers(complex: boolean, legs: BoundLeg[]): number {
  return bindingsOf(complex, legs).length;
}

function bindingsOf(complex: boolean, legs: BoundLeg[]): Binding[] {
  const floats = (name: string, access: Binding['access'], inQuads = false) =>
    partNames(complex, name).map((part): Binding => ({name: part, access, element: inQuads ? 'vec4f' : 'f32'}));
  return [
    ...floats('twiddle', 'read', true),
    ...legs.flatMap(({saves, stores, readsQuads, writesQuads}, leg): Binding[] => [
      ...floats(`source${leg}`, 'read', readsQuads),
      ...(saves ? [{name: `saves${leg}`, access: 'read_write', element: numberType(complex)} as const] : []),
      ...(stores ? floats(`target${leg}`, 'read_write', writesQuads) : []),
    ]),
  ];
}

/** Cuts a leg's way through the factors into stages. */
function plan({increasingStride, pass, tile, ...sizes}: SweepVariant, leg: LegVariant): PlannedLeg {
  const {firstStep, endStep, lowBit, spanBits, laneBits} = pass;
  const steps = factorSteps(sizes, {increasingStride, transpose: leg.transposed}).slice(firstStep, endStep);
  const inTile = steps.map(({factor, logStride}) => ({factor, bit: logStride - lowBit + laneBits}));
  // Elements are neighbours in memory where the lowest bits of their places are those of their numbers.
  const hasNeighbours = laneBits === lowBit || laneBits > 1;
  const ends = {readsQuads: hasNeighbours && leg.sourceQuads, writesQuads: hasNeighbours && leg.targetQuads};
  const stages = butterflyStages(inTile, tile.elementBits, spanBits + laneBits, ends);
  return {
    ...leg,
    stages,
    readsQuads: ends.readsQuads && holdsQuads(stages[0]),
    writesQuads: ends.writesQuads && holdsQuads(stages[stages.length - 1]),
  };
}

/** Invocations that share a row. */
const threadsAcross = ({pass, tile}: SweepVariant) => 2 ** (pass.spanBits + pass.laneBits - tile.elementBits);

const vectorType = (size: number) => (size === 1 ? 'f32' : `vec${size}f`);

export function sweepShader(variant: SweepVariant): Shader {
  const {complex, factors, pass, tile} = variant;
  const legs = variant.legs.map((leg) => plan(variant, leg));
  const {lowBit, spanBits, laneBits} = pass;
  const {threads, elementBits, rows, vectorRows} = tile;
  const rowBits = spanBits + laneBits;
  const outerLowBits = lowBit - laneBits;
  const rowsDown = threads / threadsAcross(variant);
  return makeShader(
    bindingsOf(complex, legs),
    paramsStruct(legs.length),
    `
var<workgroup> tile: array<${vectorType(vectorRows)}, ${threads * 2 ** elementBits}>;
${zeroBitFunction}

// The number, within n, of an element of the workgroup's row, of which \`base\` is the first.
fn elementOf(base: u32, place: u32) -> u32 {
  return base + ((place >> ${laneBits}u) << ${lowBit}u) + (place & ${2 ** laneBits - 1}u);
}
${entryPoint(
  threads,
  `
  // A workgroup's elements are told by a stack, its rows, and the bits above and below those of the pass.
  let outer = workgroup & ${2 ** (factors - rowBits) - 1}u;
  let stack = (workgroup >> ${factors - rowBits}u) % params.stacks;
  let firstRow = ((workgroup >> ${factors - rowBits}u) / params.stacks) * ${rowsDown * rows}u;
  if (firstRow >= params.rows) { return; }
  let base = ((outer >> ${outerLowBits}u) << ${lowBit + spanBits}u) + ((outer & ${2 ** outerLowBits - 1}u) << ${laneBits}u);
  let across = localIndex % ${threadsAcross(variant)}u;
  let down = localIndex / ${threadsAcross(variant)}u;
  ${lines(rows, (row) => `let row${row} = firstRow + down + ${row * rowsDown}u;`)}
  ${legs.map((leg, i) => `{\n${legCode(variant, leg, i)}\n}`).join('\n')}`,
)}`,
  );
}

/** Loads elements, takes them through the factors and stores them. `number` tells the leg's buffers. */
function legCode(variant: SweepVariant, leg: PlannedLeg, number: number): string {
  const {complex, tile} = variant;
  const {elementBits, rows, vectorRows} = tile;
  const {stages} = leg;
  const variables = range(rows / vectorRows).flatMap((vector) =>
    range(2 ** elementBits).flatMap((element) =>
      range(complex ? 2 : 1).map((part) => `var ${held(element, vector, part)}: ${vectorType(vectorRows)};`),
    ),
  );
  const stageCode = (stage: Stage, i: number) => {
    const [first, ...others] = stage.steps.map((step) => factorCode(variant, leg, stage, step));
    const before = stages[i - 1];
    const changeHands = before && `${before.bits}` !== `${stage.bits}`;
    // The first matrices are under way while elements change hands.
    return `
  // Factors ${stage.steps.map(({factor}) => factor).join(', ') || 'none'}.
  {
  let firstElement = elementOf(base, ${lowestPlace(stage)});
  ${first ? loadMatrices(first) : ''}
  ${changeHands ? exchange(variant, before, stage) : ''}
  ${i === 0 ? load(variant, leg, number) : ''}
  ${first ? apply(variant, leg, number, first) : ''}
  ${others.map((code) => `${loadMatrices(code)}\n  ${apply(variant, leg, number, code)}`).join('\n  ')}
  ${i === stages.length - 1 && leg.stores ? store(variant, leg, number) : ''}
  }`;
  };
  return `${variables.join(' ')}\n  ${stages.map(stageCode).join('')}`;
}

/** Offsets of an invocation's elements from its first, in places of the tile. */
const placeOffsets = ({bits}: Stage) =>
  range(2 ** bits.length).map((element) => bits.reduce((sum, bit, i) => sum + (((element >> i) & 1) << bit), 0));

/** The place of the first of them. */
const lowestPlace = ({bits}: Stage) => bits.reduce((place, bit) => `withZeroBit(${place}, ${bit}u)`, 'across');

/** An invocation's elements in a stage, as numbers within n, counted from its first. */
const elementOffsets = ({pass: {laneBits, lowBit}}: SweepVariant, stage: Stage) =>
  placeOffsets(stage).map((place) => ((place >> laneBits) << lowBit) + (place & (2 ** laneBits - 1)));

/** The number of a held element in one row. */
const heldNumber = ({tile: {vectorRows}}: SweepVariant, element: number, row: number, part: number) =>
  held(element, Math.floor(row / vectorRows), part) + (vectorRows > 1 ? `.${'xyzw'[row % vectorRows]}` : '');

/** Rows that there are not load what others do; where columns are missing there are zeros. */
function load(variant: SweepVariant, {stages, splitSource, narrowSource, readsQuads}: PlannedLeg, leg: number): string {
  const {complex, factors, tile} = variant;
  const width = `params.sourceWidth${leg}`;
  const size = readsQuads ? 4 : 1;
  const zero = readsQuads ? 'vec4f()' : '0.0';
  const offsets = elementOffsets(variant, stages[0]);
  const loadElements = (source: string, part: number, row: number, element: number) => {
    const name = `${source}_${row}_${element}`;
    const loaded = `${source}[start${row} + ${offsets[element] / size}u]`;
    const value = narrowSource ? `select(${zero}, ${loaded}, column + ${offsets[element]}u < ${width})` : loaded;
    return `let ${name} = ${value};
    ${lines(size, (i) => `${heldNumber(variant, element + i, row, part)} = ${name}${readsQuads ? `.${'xyzw'[i]}` : ''};`)}`;
  };
  return `let column = ${splitSource ? `(stack << ${factors}u) + ` : ''}firstElement;
  ${lines(tile.rows, (row) => {
    const place = `(params.firstRow + min(row${row}, params.rows - 1u)) * ${width} + column`;
    const loads = partNames(complex, `source${leg}`).map((source, part) =>
      lines(offsets.length / size, (i) => loadElements(source, part, row, i * size)),
    );
    return `let start${row} = (${place}) / ${size}u;\n  ${loads.join('\n')}`;
  })}`;
}

function store(variant: SweepVariant, {stages, narrowTarget, writesQuads}: PlannedLeg, leg: number): string {
  const {complex, factors, tile} = variant;
  const width = `params.targetWidth${leg}`;
  const size = writesQuads ? 4 : 1;
  const offsets = elementOffsets(variant, stages[stages.length - 1]);
  const storeElements = (row: number, element: number) => {
    const stored = partNames(complex, `target${leg}`).map((target, part) => {
      const numbers = range(size).map((i) => heldNumber(variant, element + i, row, part));
      return `${target}[place + ${offsets[element] / size}u] = ${writesQuads ? `vec4f(${numbers})` : numbers[0]};`;
    });
    const isInside = `targetColumn + ${offsets[element]}u < ${width}`;
    return narrowTarget ? `if (${isInside}) { ${stored.join(' ')} }` : stored.join(' ');
  };
  return `let targetColumn = (stack << ${factors}u) + firstElement;
  ${lines(
    tile.rows,
    (row) => `if (row${row} < params.rows) {
    let place = ((params.firstRow + row${row}) * ${width} + targetColumn) / ${size}u;
    ${lines(offsets.length / size, (i) => storeElements(row, i * size))}
  }`,
  )}`;
}

function factorCode(variant: SweepVariant, leg: PlannedLeg, stage: Stage, step: StageStep): FactorCode {
  const {complex, blocks, factors, pass, tile} = variant;
  return {
    complex,
    transposed: leg.transposed,
    conjugated: leg.conjugated,
    elementBits: tile.elementBits,
    vectors: tile.rows / tile.vectorRows,
    step,
    heldBit: stage.bits.indexOf(step.bit),
    logStride: step.bit - pass.laneBits + pass.lowBit,
    offsets: elementOffsets(variant, stage),
    pairBits: factors - 1,
    factors: blocks * factors,
  };
}

/** Takes the numbers that an invocation holds through a factor, after saving them. */
function apply(variant: SweepVariant, leg: PlannedLeg, number: number, code: FactorCode): string {
  return `${leg.saves ? save(variant, number, code) : ''}\n  ${applyFactor(code)}`;
}

function save(variant: SweepVariant, leg: number, {complex, step, offsets}: FactorCode): string {
  const numberOf = (row: number, element: number) => {
    const parts = range(complex ? 2 : 1).map((part) => heldNumber(variant, element, row, part));
    return complex ? `vec2f(${parts.join(', ')})` : parts[0];
  };
  return lines(
    variant.tile.rows,
    (row) => `if (row${row} < params.rows) {
    let place = (((${step.factor}u * params.rows + row${row}) * params.stacks + stack) << ${variant.factors}u) + firstElement;
    ${lines(offsets.length, (i) => `saves${leg}[place + ${offsets[i]}u] = ${numberOf(row, i)};`)}
  }`,
  );
}

/**
 * Where an element of the tile lies in workgroup memory: three bits are mixed with those above, so that neighbouring
 * invocations reach different banks whatever the bits in which their elements differ.
 */
const mixed = (place: number) => place ^ (place >> 3);

/**
 * Stores what invocations hold in workgroup memory, and loads what they hold in the next stage, one vector of each element
 * after the other: the less memory a workgroup takes, the more of them share a core.
 */
function exchange({complex, pass, tile}: SweepVariant, from: Stage, to: Stage): string {
  const rowBits = pass.spanBits + pass.laneBits;
  const slots = (name: string, stage: Stage) => `let ${name}Place = (down << ${rowBits}u) + ${lowestPlace(stage)};
  let ${name} = ${name}Place ^ (${name}Place >> 3u);`;
  const slot = (name: string, offset: number) => `tile[${name} ^ ${mixed(offset)}u]`;
  const vectors = range(tile.rows / tile.vectorRows).flatMap((vector) =>
    range(complex ? 2 : 1).map((part) => (element: number) => held(element, vector, part)),
  );
  const [given, taken] = [placeOffsets(from), placeOffsets(to)];
  const rounds = vectors.map(
    (nameOf) => `workgroupBarrier();
  ${lines(given.length, (i) => `${slot('given', given[i])} = ${nameOf(i)};`)}
  workgroupBarrier();
  ${lines(taken.length, (i) => `${nameOf(i)} = ${slot('taken', taken[i])};`)}`,
  );
  return `${slots('given', from)}\n  ${slots('taken', to)}\n  ${rounds.join('\n  ')}`;
}
