"""Augmentation: equal to torchvision's in every pixel, random only by its generator, free if nothing is requested."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from resnetlab.vision.data.augment import Augment, angles, rotation_table


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n, height, width, channels, seed=0):
    return torch.randint(1, 256, (n, height, width, channels), dtype=torch.uint8, generator=generator(seed))


def raw(shape, **settings):
    """An Augment whose output is the pixels themselves."""
    return Augment(shape, [0.0] * shape[2], [1 / 255] * shape[2], **settings)


def rotated(images, degrees):
    """torchvision's nearest rotation of (B, H, W, C), filled with zeros."""
    turned = reference.rotate(images.permute(0, 3, 1, 2), degrees, InterpolationMode.NEAREST)
    return turned.permute(0, 2, 3, 1)


def moved(images, table):
    """Apply a rotation table to (B, H, W, C)."""
    flat = images.reshape(len(images), -1, images.shape[-1])
    flat = torch.cat([flat, torch.zeros_like(flat[:, :1])], dim=1)
    return flat[:, table].view(images.shape)


@pytest.mark.parametrize("shape", [(20, 20), (28, 28), (32, 32), (33, 33), (17, 40), (40, 17), (64, 64), (5, 7)])
def test_rotation_equals_torchvision_at_every_half_degree(shape):
    images = batch(1, *shape, 3)
    for degrees in [*angles(30.0), 45.0, 90.0, -90.0, 135.0, 180.0]:
        assert torch.equal(moved(images, rotation_table(*shape, degrees)), rotated(images, degrees)), degrees


@settings(max_examples=150)
@given(height=st.integers(1, 70), width=st.integers(1, 70), degrees=st.floats(-180, 180))
def test_rotation_equals_torchvision_anywhere(height, width, degrees):
    images = batch(1, height, width, 1)
    assert torch.equal(moved(images, rotation_table(height, width, degrees)), rotated(images, degrees))


def test_angles():
    assert angles(0.0) == [0.0]
    assert angles(15.0) == [i / 2 for i in range(-30, 31)]
    assert angles(0.3) == [-0.3, 0.0, 0.3]


@pytest.mark.parametrize("shape", [(9, 9, 1), (8, 11, 3)])
def test_each_result_is_crop_then_flip_then_rotation(shape):
    """Every augmented image is one of those that torchvision's transforms, one after the other, can give."""
    crop, rotation, n = 2, 3.0, 64
    image = batch(1, *shape)
    out = raw(shape, crop=crop, flip=True, rotation=rotation)(image.expand(n, *shape).contiguous(), generator())
    padded = torch.zeros(1, shape[0] + 2 * crop, shape[1] + 2 * crop, shape[2], dtype=torch.uint8)
    padded[:, crop:-crop, crop:-crop] = image
    possible = {}
    for down in range(2 * crop + 1):
        for right in range(2 * crop + 1):
            window = padded[:, down : down + shape[0], right : right + shape[1]]
            for flip in (False, True):
                side = window.flip(2) if flip else window
                for degrees in angles(rotation):
                    possible.setdefault(rotated(side, degrees).numpy().tobytes(), []).append(
                        (down, right, flip, degrees)
                    )
    seen = [possible[one.permute(1, 2, 0).round().to(torch.uint8).numpy().tobytes()] for one in out]
    assert len({tuple(choices) for choices in seen}) > n // 2
    for position in range(3):
        assert len({choices[0][position] for choices in seen}) > 1


def test_every_choice_is_equally_likely():
    images = batch(1, 4, 4, 1).expand(20000, 4, 4, 1).contiguous()
    out = raw((4, 4, 1), crop=1, flip=True)(images, generator())
    counts = torch.unique(out.reshape(20000, -1), dim=0, return_counts=True)[1]
    assert len(counts) == 18
    assert (counts - 20000 / 18).abs().max() < 5 * (20000 / 18) ** 0.5


@pytest.mark.parametrize("settings", [{}, {"crop": 4, "flip": True, "rotation": 15.0}, {"flip": True}])
def test_layout_and_type(settings):
    augment = Augment((32, 32, 3), [0.4, 0.5, 0.6], [0.2, 0.3, 0.4], **settings)
    for out in (augment(batch(5, 32, 32, 3), generator()), augment.plain(batch(5, 32, 32, 3))):
        assert out.shape == (5, 3, 32, 32)
        assert out.dtype == torch.float32
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_normalisation_equals_torchvision():
    mean, std = np.array([0.4, 0.5, 0.6], np.float32), np.array([0.2, 0.3, 0.4], np.float32)
    images = batch(4, 6, 5, 3)
    expected = reference.normalize(images.permute(0, 3, 1, 2) / 255, mean.tolist(), std.tolist())
    torch.testing.assert_close(Augment((6, 5, 3), mean, std).plain(images), expected, rtol=1e-5, atol=1e-6)


def test_without_augmentation_nothing_moves_and_nothing_is_drawn():
    source = generator()
    before = source.get_state()
    augment = Augment((6, 6, 1), [0.5], [0.25])
    images = batch(3, 6, 6, 1)
    assert torch.equal(augment(images, source), augment.plain(images))
    assert torch.equal(source.get_state(), before)


def test_randomness_comes_from_the_generator_alone():
    augment = raw((12, 12, 3), crop=2, flip=True, rotation=10.0)
    images = batch(16, 12, 12, 3)
    torch.manual_seed(1)
    one = augment(images, generator(5))
    torch.manual_seed(2)
    assert torch.equal(one, augment(images, generator(5)))
    assert not torch.equal(one, augment(images, generator(6)))


def test_images_are_left_as_they_were_and_do_not_mix():
    images = torch.arange(1, 9, dtype=torch.uint8)[:, None, None, None].expand(8, 10, 10, 3).contiguous()
    before = images.clone()
    out = raw((10, 10, 3), crop=3, flip=True, rotation=20.0)(images, generator())
    assert torch.equal(images, before)
    for i, one in enumerate(out.round()):
        assert set(one.unique().tolist()) <= {0.0, i + 1.0}


def test_last_small_batch_and_another_instance_share_tables():
    one = raw((8, 8, 1), crop=1, rotation=5.0)
    two = raw((8, 8, 1), crop=1, rotation=5.0)
    assert one.tables.data_ptr() == two.tables.data_ptr()
    assert one(batch(1, 8, 8, 1), generator()).shape == (1, 1, 8, 8)


@pytest.mark.gpu
def test_on_a_gpu_the_same_tables_move_the_same_pixels():
    augment = raw((32, 32, 3), crop=4, flip=True, rotation=15.0, device="cuda")
    assert torch.equal(augment.tables.cpu(), raw((32, 32, 3), crop=4, flip=True, rotation=15.0).tables)
    out = augment(batch(64, 32, 32, 3).cuda(), torch.Generator("cuda").manual_seed(0))
    assert out.is_cuda
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_flips_either_way_are_independent_and_equally_likely():
    image = batch(1, 5, 7, 3)
    out = raw((5, 7, 3), flip=True, flip_vertical=True)(image.expand(4000, 5, 7, 3).contiguous(), generator())
    expected = [image, image.flip(1), image.flip(2), image.flip(1, 2)]
    counts = [(out.permute(0, 2, 3, 1).round() == one).all((1, 2, 3)).sum().item() for one in expected]
    assert sum(counts) == 4000 and all(abs(count - 1000) < 5 * 750**0.5 for count in counts)
    only = raw((5, 7, 3), flip_vertical=True)(image.expand(64, 5, 7, 3).contiguous(), generator())
    assert {tuple(one.flatten().tolist()) for one in only.permute(0, 2, 3, 1).round().int()} == {
        tuple(one.flatten().tolist()) for one in (image.int(), image.flip(1).int())
    }
