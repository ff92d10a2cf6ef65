/** A model as it is after `model.save` and `tf.loadLayersModel`. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';

export async function savedAndLoaded(model: tfl.LayersModel): Promise<tfl.LayersModel> {
  let saved: tf.io.ModelArtifacts | undefined;
  await model.save(
    tf.io.withSaveHandler(async (artifacts) => {
      saved = artifacts;
      return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
    }),
  );
  const modelTopology = JSON.parse(JSON.stringify(saved?.modelTopology));
  return tfl.loadLayersModel(tf.io.fromMemory({...saved, modelTopology}));
}
