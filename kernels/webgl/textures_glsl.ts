/**
 * GLSL with which programs find their way in textures.
 *
 * All textures are packed: a texel holds a quad, two rows × two columns of a tensor's last two axes, as
 * (row, column), (row, column + 1), (row + 1, column), (row + 1, column + 1); quads follow one another row by row. A
 * product of two packed matrices then takes two texel fetches for eight multiply-adds.
 */

/** GLSL with which programs find their way in packed textures. */
export const textureAccess = `
// Where a texel lies in a texture of this width.
ivec2 place(int index, int width) {
  int row = index / width;
  return ivec2(index - row * width, row);
}

// The place a step further on, for loops that should not divide.
ivec2 advance(ivec2 at, ivec2 step, int width) {
  at += step;
  return at.x >= width ? ivec2(at.x - width, at.y + 1) : at;
}

// How many pairs of rows or columns hold so many.
int pairs(int size) {
  return (size + 1) / 2;
}

int packedWidth(ivec2 textureShape) {
  return pairs(textureShape[1]);
}

// The row of a quad that belongs to this index, where its axis is packed in twos.
vec2 halfOf(vec4 quad, int index) {
  return (index & 1) == 0 ? quad.xy : quad.zw;
}

// The column of a quad that belongs to this index.
vec2 columnOf(vec4 quad, int index) {
  return (index & 1) == 0 ? quad.xz : quad.yw;
}

// Which elements of a quad lie beyond their matrix, where a side of it is odd.
bvec4 outside(int rowPair, int columnPair, int rows, int columns) {
  bvec2 second = bvec2(2 * rowPair + 1 >= rows, 2 * columnPair + 1 >= columns);
  return bvec4(false, second.y, second.x, second.x || second.y);
}

// The number of the texel that this fragment makes, for packed outputs.
int outputTexel() {
  return int(gl_FragCoord.y) * packedWidth(outTexShape) + int(gl_FragCoord.x);
}`;

/** GLSL of `setQuad`: the output, where it may reach beyond the last row or column of its matrix. */
export const setQuadFunction = `
// Padding is 0, on which tfjs's products rely.
void setQuad(vec4 quad, bool hasNextRow, bool hasNextColumn) {
  if (!hasNextRow) { quad.zw = vec2(0.0); }
  if (!hasNextColumn) { quad.yw = vec2(0.0); }
  setOutput(quad);
}`;

/** GLSL of the texel with this number. */
export function texel(input: string, index: string): string {
  return `texelFetch(${input}, place(${index}, packedWidth(${input}TexShape)), 0)`;
}

/** GLSL of a walk over the texels of a texture: `declare` takes place before it, `fetch` reads where it has come to. */
export interface Walk {
  declare: string;
  fetch: string;
  /** One step on. */
  advance: string;
  /** One step on without looking out for the end of a texture row. */
  advanceStraight: string;
  /** To the next texture row, if steps without looking out have led past the end of one. */
  wrap: string;
  /** Whether all of so many texels are reached that way. */
  isStraight: (steps: number) => string;
}

/** A walk that begins anew in a loop: its step is declared outside of that, its start inside. */
export interface RepeatedWalk extends Walk {
  declareStep: string;
  declareStart: string;
}

/** A walk from one texel in steps of as many; `name` is that of its variables. */
export function texelWalk(texture: string, name: string, start: string, step: string): RepeatedWalk {
  const [at, by, width] = [`${name}At`, `${name}Step`, `packedWidth(${texture}TexShape)`];
  const declareStart = `ivec2 ${at} = place(${start}, ${width});`;
  const declareStep = `ivec2 ${by} = place(${step}, ${width});`;
  return {
    declare: `${declareStart}
  ${declareStep}`,
    declareStart,
    declareStep,
    fetch: `texelFetch(${texture}, ${at}, 0)`,
    advance: `${at} = advance(${at}, ${by}, ${width});`,
    advanceStraight: `${at} += ${by};`,
    wrap: `${at} = advance(${at}, ivec2(0), ${width});`,
    isStraight: (steps) => `${at}.x + ${steps - 1} * ${by}.x < ${width}`,
  };
}

/**
 * GLSL that takes the walks so many steps on, with `body` at each: `atOnce` of them, without looking out for the end of a
 * texture row, until a walk meets one among them, which in textures as wide as their matrices is never. No branch is in the
 * loops: software renders each with a mask.
 */
export function walkTogether(walks: Walk[], count: string, body: string, atOnce = 4): string {
  const straightStep = `{ ${body} }
      ${walks.map(({advanceStraight}) => advanceStraight).join(' ')}`;
  return `
  {
    int count = ${count};
    int n = 0;
    for (; n + ${atOnce} <= count && ${walks.map(({isStraight}) => isStraight(atOnce)).join(' && ')}; n += ${atOnce}) {
      ${Array(atOnce).fill(straightStep).join('\n      ')}
      ${walks.map(({wrap}) => wrap).join(' ')}
    }
    for (; n < count; n++) {
      ${body}
      ${walks.map(({advance}) => advance).join(' ')}
    }
  }`;
}
