/** WGSL of what attention_wgsl.ts and live_tiles_wgsl.ts do with four scores, for kernels whose lanes have one at a time. */
import type {AttentionVariant} from './attention_wgsl.js';

export function elementFunctions(variant: AttentionVariant): string {
  return `
fn scoreOf(head: Head, dot: f32, query: i32, key: i32) -> f32 {
  return scoresOf(head, vec4f(dot), vec4i(query), vec4i(key)).x;
}

fn hideIfInvisible(head: Head, score: f32, query: i32, key: i32) -> f32 {
  return hideInvisible(head, vec4f(score), vec4i(query), vec4i(key)).x;
}
${
  variant.layout
    ? `
fn hideIfDead(head: Head, score: f32, query: i32, key: i32) -> f32 {
  return select(hiddenScore, score, isLive(head, query, key));
}`
    : ''
}
${
  variant.dropout
    ? `
fn keepOfElement(head: Head, query: u32, key: u32) -> f32 {
  return keepOf(head, query, key / 4u)[key % 4u];
}`
    : ''
}`;
}
