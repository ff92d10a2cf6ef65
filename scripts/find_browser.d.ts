export declare const browserFlags: string[];
export declare const testFlags: string[];
export declare function findBrowser(): string;
