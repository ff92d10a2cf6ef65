/** The whole op over the grid: output, lse and every gradient on every backend, against float64. */
import {attentionCases, describeCase} from '../attention_cases.js';
import {expectRight} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

describeOnBackends('flashAttention agrees with float64, forward and backward', () => {
  for (const attentionCase of attentionCases) {
    it(describeCase(attentionCase), () => expectRight(attentionCase));
  }
});
