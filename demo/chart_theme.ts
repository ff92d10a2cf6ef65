/** Charts in the colours and the width of the page, whose style sheet says both. */
import type uPlot from 'uplot';

export function chartColor(container: HTMLElement, name: string): string {
  return getComputedStyle(container).getPropertyValue(name);
}

export function themedAxis(container: HTMLElement, axis: uPlot.Axis): uPlot.Axis {
  const line = () => chartColor(container, '--line');
  return {
    stroke: () => chartColor(container, '--muted'),
    font: '12px system-ui, sans-serif',
    labelFont: '12px system-ui, sans-serif',
    grid: {stroke: line, width: 1},
    ticks: {stroke: line, width: 1},
    ...axis,
  };
}

/** Keeps a chart as wide as its container, and in the colours of light or dark mode. */
export function followPage(plot: uPlot, container: HTMLElement, height: number): void {
  new ResizeObserver(() => plot.setSize({width: container.clientWidth, height})).observe(container);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => plot.redraw(false, true));
}
