"""What a finished run draws: the first layer's filters."""

import numpy as np
import pytest

from funcnn import Key, serial
from funcnn.experiment.results import first_filters
from funcnn.layers import conv2d, dense, flatten, relu


def weights(layer, in_shape):
    return layer.init(Key(0), in_shape).params.weight


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_filters_are_the_first_layers_weights(channels):
    in_shape = (6, 5, channels)
    net = serial(serial(conv2d(4, (3, 2)), relu()), conv2d(2, 3), flatten(), dense(3))
    params = net.init(Key(0), in_shape).params
    np.testing.assert_array_equal(first_filters(params, in_shape), params[0][0].weight)
    # A unit's weights, by the pixel that each is for: laid on an image, they give the unit's value.
    params = serial(flatten(), dense(3)).init(Key(0), in_shape).params
    image = np.random.default_rng(0).normal(size=in_shape)
    filters = first_filters(params, in_shape)
    assert filters.shape == (*in_shape, 3)
    np.testing.assert_allclose(np.einsum("hwc,hwcf->f", image, filters), image.reshape(-1) @ params[1].weight)


@pytest.mark.parametrize(
    ("net", "in_shape"),
    [
        (dense(3), (4,)),
        (serial(flatten(), dense(3)), (2, 2, 2)),  # two channels are neither grey nor colours
        (conv2d(3, 1), (4, 4, 3)),  # filters of one pixel are no pictures
        (relu(), (4, 4, 1)),
        (conv2d(6, 3, groups=3), (4, 4, 3)),
    ],
    ids=str,
)
def test_weights_that_are_no_images_are_no_filters(net, in_shape):
    assert first_filters(net.init(Key(0), in_shape).params, in_shape) is None
