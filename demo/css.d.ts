/** esbuild gathers imported style sheets into page.css; to TypeScript they are modules without exports. */
declare module '*.css';
