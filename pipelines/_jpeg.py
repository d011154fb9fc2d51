"""Decode only the part of a JPEG that is kept."""

from collections.abc import Callable

import tensorflow as tf

from pipelines._checks import check_count


def decode_and_random_crop(
    encoded: tf.Tensor,
    size: tuple[int, int],
    *,
    seed: tf.Tensor,
    channels: int = 3,
) -> tf.Tensor:
    """Decode a crop of `size` whose place is uniform over the image.

    Of a JPEG only the crop is decoded. It equals a crop after `tf.io.decode_jpeg` bit for bit,
    except that colours in its last column may differ by a few levels, since their interpolation
    ends there. Other formats are decoded whole.

    Args:
        encoded: JPEG, PNG, BMP or the first frame of a GIF: a scalar string.
        size: Height and width, pixels, at most those of the image.
        seed: Stateless seed, integer of shape (2,), such as a pipeline's `map` is given.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8 of shape (height, width, channels).

    Raises:
        ValueError: If `size` or `channels` is out of range.
        tf.errors.InvalidArgumentError: When it runs, if the image is smaller than `size`.

    Examples:
        >>> import tensorflow as tf
        >>> import pipelines
        >>> encoded = tf.io.encode_jpeg(tf.zeros([20, 30, 3], tf.uint8))
        >>> pipelines.decode_and_random_crop(encoded, (16, 16), seed=(0, 1)).shape.as_list()
        [16, 16, 3]
    """
    extent = _check_size(size)

    def window(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        random = tf.random.stateless_uniform([2], seed, maxval=tf.int32.max, dtype=tf.int32)
        return random % (_room(shape, extent) + 1), tf.constant(extent)

    return tf.ensure_shape(_decode_window(encoded, window, channels), [*extent, channels])


def decode_and_center_crop(
    encoded: tf.Tensor, size: tuple[int, int], *, channels: int = 3
) -> tf.Tensor:
    """Decode the crop of `size` at the centre; its arguments are those of the random crop.

    Examples:
        >>> import tensorflow as tf
        >>> import pipelines
        >>> encoded = tf.io.encode_jpeg(tf.zeros([20, 30, 3], tf.uint8))
        >>> pipelines.decode_and_center_crop(encoded, (16, 16)).shape.as_list()
        [16, 16, 3]
    """
    extent = _check_size(size)

    def window(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _room(shape, extent) // 2, tf.constant(extent)

    return tf.ensure_shape(_decode_window(encoded, window, channels), [*extent, channels])


def decode_and_random_resized_crop(
    encoded: tf.Tensor,
    size: tuple[int, int],
    *,
    seed: tf.Tensor,
    area_fraction: tuple[float, float] = (0.08, 1.0),
    aspect_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    channels: int = 3,
) -> tf.Tensor:
    """Decode a crop of random area, aspect and place, and resize it bilinearly to `size`.

    Only the crop is decoded. A crop that does not fit after ten tries is the whole image.

    Args:
        encoded: As in `decode_and_random_crop`.
        size: Height and width of the result, pixels.
        seed: As in `decode_and_random_crop`.
        area_fraction: Smallest and largest area of the crop over that of the image, in (0, 1].
        aspect_ratio: Smallest and largest width over height of the crop.
        channels: 1 for grey, 3 for colour.

    Returns:
        float32 of shape (height, width, channels), in [0, 255].

    Szegedy et al., "Going deeper with convolutions" (2014).
    """
    height, width = _check_size(size)

    def window(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.concat([shape, [channels]], axis=0),
            bounding_boxes=tf.zeros([1, 0, 4]),
            seed=seed,
            area_range=area_fraction,
            aspect_ratio_range=aspect_ratio,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        return begin[:2], extent[:2]

    crop = _decode_window(encoded, window, channels)
    return tf.ensure_shape(tf.image.resize(crop, [height, width]), [height, width, channels])


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = size
    except (TypeError, ValueError) as error:
        raise ValueError(f"`size` must be (height, width), pixels. Received: {size!r}.") from error
    return (
        check_count("height", height, minimum=1),
        check_count("width", width, minimum=1),
    )


def _room(shape: tf.Tensor, extent: tuple[int, int]) -> tf.Tensor:
    """Return by how many pixels an image is larger than a crop, or fail if it is smaller."""
    room = shape - tf.constant(extent)
    # Words and numbers apart: a message put together here would be made for every image.
    words = f"The image must be at least as large as the crop, {extent}. Its height and width are"
    check = tf.debugging.Assert(tf.reduce_all(room >= 0), [words, shape])
    with tf.control_dependencies([check]):
        return tf.identity(room)


def _decode_window(
    encoded: tf.Tensor,
    window: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    channels: int,
) -> tf.Tensor:
    """Decode the part of an image that `window` chooses: its corner and extent, given its shape.

    Shapes are height and width, int32 of shape (2,).
    """

    def of_jpeg() -> tf.Tensor:
        begin, extent = window(tf.io.extract_jpeg_shape(encoded)[:2])
        return tf.image.decode_and_crop_jpeg(encoded, tf.concat([begin, extent], 0), channels)

    def of_other() -> tf.Tensor:
        image = tf.io.decode_image(encoded, channels, expand_animations=False)
        begin, extent = window(tf.shape(image)[:2])
        return tf.slice(image, tf.concat([begin, [0]], 0), tf.concat([extent, [channels]], 0))

    # One condition around everything: each costs the time of some ten small operations.
    return tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_other)
