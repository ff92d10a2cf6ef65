/** What tf.layers lets a layer's arguments name, as objects: 'zeros', {className, config}, or the object itself. */
import {serialization} from '@tensorflow/tfjs-core';

/** How a saved model or an argument names an initializer, a regularizer or an activation. */
export type Identifier<T> = T | string | {className: string; config: serialization.ConfigDict};

/**
 * tfjs-layers has this lookup too, but does not export it. Both read the table of tfjs-core in which classes register:
 * activations by the name that arguments use, others by one that differs in case ('heNormal' is HeNormal, 'l1l2' L1L2).
 * Saved models change underscores into case as well.
 *
 * @throws Error if no class has the name.
 */
export function fromIdentifier<T extends serialization.Serializable>(
  functionName: string,
  argument: string,
  identifier: Identifier<T>,
): T {
  if (identifier instanceof serialization.Serializable) return identifier;
  const {className, config} = typeof identifier === 'string' ? {className: identifier, config: {}} : identifier;
  const {classNameMap} = serialization.SerializationMap.getMap();
  const plain = (name: string) => name.replaceAll('_', '').toLowerCase();
  const alike = Object.keys(classNameMap).find((name) => plain(name) === plain(className));
  const registered = classNameMap[className] ?? (alike && classNameMap[alike]);
  if (!registered) throw new Error(`${functionName}: ${argument} names no registered class, got '${className}'.`);
  const [cls, fromConfig] = registered;
  return fromConfig(cls, config) as T;
}

/** What {@link fromIdentifier} takes to make the object again. */
export function toIdentifier(object: serialization.Serializable): serialization.ConfigDict {
  return {className: object.getClassName(), config: object.getConfig()};
}
