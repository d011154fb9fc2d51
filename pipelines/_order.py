"""Which example comes when: pure functions of (seed, epoch, step), so any step can be computed."""

import dataclasses

import tensorflow as tf

from pipelines._host import ONLY_HOST, Host

# Rounds of the cipher behind `RandomIndexShuffle`. The public `index_shuffle` fixes 4, and there
# the orders of two epochs correlate by up to 0.9 at 60,000 examples. Two passes of 8 are no worse
# than two of 16, at half the cost.
SHUFFLE_ROUNDS = 8

# The cipher works on blocks of an even number of bits, at least 16, that hold any index, and of
# each of its three key words it uses only the low half of a block. One pass has 24 bits of key for
# up to 65,536 examples, and 4,000 epochs would hold the same order twice with a probability of
# 0.4; two passes have 48.
_PASSES = 2
_KEY_WORDS = 3

LARGEST_STEP = tf.int64.max


def permute(indices: tf.Tensor, *, seed: int, epoch: tf.Tensor, num_examples: int) -> tf.Tensor:
    """Map int64 `indices` in [0, num_examples) through the permutation of (`seed`, `epoch`)."""
    # The first word seeds the map's examples.
    keys = tf.reshape(epoch_words(seed, epoch, 1 + _PASSES * _KEY_WORDS)[1:], [_PASSES, _KEY_WORDS])
    for key in tf.unstack(keys):
        indices = tf.raw_ops.RandomIndexShuffle(
            index=indices,
            seed=key,
            max_index=tf.constant(num_examples - 1, tf.int64),
            rounds=SHUFFLE_ROUNDS,
        )
    return indices


def epoch_words(seed: int, epoch: tf.Tensor, count: int) -> tf.Tensor:
    """Return the first `count` random int64 words of (`seed`, `epoch`).

    They hash all 64 bits of both, so that neighbouring seeds and epochs share nothing.
    """
    return tf.random.stateless_uniform(
        [count],
        seed=tf.stack([tf.convert_to_tensor(seed, tf.int64), epoch]),
        minval=None,
        dtype=tf.int64,
        alg="philox",
    )


def epoch_word(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """Return the random int64 scalar of (`seed`, `epoch`).

    The stateless seed of an example is (word, index), which is what `tf.random.fold_in` returns.
    """
    return epoch_words(seed, epoch, 1)[0]


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of the examples of a training pipeline.

    Epoch `step // steps_per_epoch` draws each example at most once; the examples that do not fill
    a batch on every host are dropped, and with `shuffle` they are others in each epoch.

    Args:
        num_examples: Size of the set, of all hosts together.
        batch_size: Examples per step on each host.
        seed: Integer in [0, 2**63).
        shuffle: Whether each epoch permutes the set; otherwise its own order is kept.
        steps_per_epoch: Steps that every host makes per epoch, at least 1.
        host: Which host reads.
    """

    num_examples: int
    batch_size: int
    seed: int
    shuffle: bool
    steps_per_epoch: int
    host: Host = ONLY_HOST

    @property
    def num_dropped(self) -> int:
        """Examples that no host reads in an epoch."""
        return self.num_examples - self.steps_per_epoch * self.batch_size * self.host.count

    def batch(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the epoch, an int64 scalar, and the indices, int64 (batch_size,), of `step`.

        The batches of all hosts, one after the other, are the batch that one host would read with
        `batch_size * host.count`.
        """
        epoch = step // self.steps_per_epoch
        global_batch = (step % self.steps_per_epoch) * self.host.count + self.host.index
        indices = global_batch * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)
        if self.shuffle:
            indices = permute(indices, seed=self.seed, epoch=epoch, num_examples=self.num_examples)
        return epoch, indices


def when_iterated(start_step: tf.Variable) -> tf.data.Dataset:
    """Return one element, the value that `start_step` has when an iteration begins."""

    def read(_: tf.Tensor) -> tf.Tensor:
        tf.debugging.assert_non_negative(start_step, message="`start_step` must not be negative.")
        return start_step.read_value()

    # `Dataset.range(variable)` would freeze today's value; a function reads it for each iterator.
    return tf.data.Dataset.from_tensors(0).map(read)
