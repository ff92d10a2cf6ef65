/** What every compute shader is made of: its bindings, its uniforms, its entry point. */

/** One storage buffer of a shader. */
export interface Binding {
  name: string;
  access: 'read' | 'read_write';
  element: 'f32' | 'i32' | 'u32' | 'vec2f' | 'vec4f';
}

export interface Shader {
  /** Of WGSL. */
  code: string;
  bindings: Binding[];
}

/**
 * Puts declarations in front of a body. Buffers are bound in the given order, the uniforms `params` after them;
 * `paramsStruct` declares their type, `Params`. Directives of WGSL must come first of all.
 */
export function makeShader(bindings: Binding[], paramsStruct: string, body: string, directives = ''): Shader {
  const buffers = bindings.map(
    ({name, access, element}, i) => `@group(0) @binding(${i}) var<storage, ${access}> ${name}: array<${element}>;`,
  );
  const code = `${directives}
${buffers.join('\n')}
@group(0) @binding(${bindings.length}) var<uniform> params: Params;
${paramsStruct}
${body}`;
  return {code, bindings};
}

/**
 * The signature of an entry point; its body sees `workgroup` (linear), `localIndex`, and what `builtins` adds, for example
 * '@builtin(subgroup_size) subgroupSize: u32'.
 */
export function entryPoint(threads: number, body: string, builtins: string[] = []): string {
  return `
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) workgroupId: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) localIndex: u32,
  ${builtins.join(', ')}
) {
  let workgroup = workgroupId.y * grid.x + workgroupId.x;
${body}
}`;
}
