/** What the page of the pretraining and the program that drives it say to each other. */

export const MLP_KINDS = ['dense', 'pixelfly', 'monarch'] as const;

/** Of the model and its training. */
export interface Settings {
  layers: number;
  heads: number;
  width: number;
  mlp: (typeof MLP_KINDS)[number];
  /** Longest text that the model sees, and the length of what it is trained on, in bytes. */
  context: number;
  batch: number;
  steps: number;
  /** The peak of the learning rate. */
  rate: number;
  /** Of the text, the first so many bytes; all of it where undefined. */
  bytes?: number;
  /** Gives up early when it sees that the steps would take longer. */
  minutes?: number;
}

export interface Assignment {
  settings: Settings;
  /** Goes into the model's metadata; the packages that the text was collected from are null where they are not known. */
  text: {sha256: string; packages: string[] | null};
  /** Of this library. */
  libraryVersion: string;
}

export interface PretrainingPage {
  describe(): Promise<{adapter: Record<string, string>; webglRenderer: string}>;
  /** Trains, saves the model through `PUT model/…`, checks what it has saved, and logs how it goes. */
  pretrain(assignment: Assignment): Promise<void>;
}
