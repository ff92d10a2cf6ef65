export declare const browserFlags: string[];
export declare function findBrowser(): string;
