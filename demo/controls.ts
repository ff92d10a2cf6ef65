/** Listening to the page's buttons, and to files that are chosen or dropped. */
import {element} from './dom.js';

export function onClick(id: string, act: () => void): void {
  element(id, HTMLButtonElement).addEventListener('click', act);
}

/** Takes files chosen in an input, or dropped on the place around it. */
export function onFiles(id: string, dropId: string, take: (files: FileList) => void): void {
  const input = element(id, HTMLInputElement);
  input.addEventListener('change', () => {
    if (input.files && input.files.length > 0) take(input.files);
  });
  onDrop(dropId, input, take);
}

/** Files that are dropped around an input become its files. */
export function letDropFill(id: string, dropId: string): void {
  const input = element(id, HTMLInputElement);
  onDrop(dropId, input, (files) => {
    input.files = files;
  });
}

/** Like the input, it takes nothing while that is disabled. */
function onDrop(id: string, input: HTMLInputElement, take: (files: FileList) => void): void {
  const place = element(id, HTMLElement);
  const mark = (over: boolean) => place.classList.toggle('over', over);
  place.addEventListener('dragover', (event) => {
    event.preventDefault();
    mark(true);
  });
  place.addEventListener('dragleave', () => mark(false));
  place.addEventListener('drop', (event) => {
    event.preventDefault();
    mark(false);
    const files = event.dataTransfer?.files;
    if (files && files.length > 0 && !input.matches(':disabled')) take(files);
  });
}
