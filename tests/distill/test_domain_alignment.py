"""Domains aligned: the discriminator learns them, δ makes it fail, and nothing else gets a gradient."""

import pytest
import torch
import torch.nn.functional as F

from facedistill.distill.domain_alignment import DomainDiscriminator, aligned


@pytest.fixture(scope="module")
def tinted() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of three domains, each of another tint."""
    draw = torch.Generator().manual_seed(0)
    domains = torch.arange(60) % 3
    images = torch.randint(30, 200, (60, 3, 20, 20), generator=draw)
    images[torch.arange(60), domains] += 20
    return images.to(torch.uint8), domains


@pytest.fixture(scope="module")
def discriminator(tinted: tuple[torch.Tensor, torch.Tensor]) -> DomainDiscriminator:
    images, domains = tinted
    torch.manual_seed(0)
    made = DomainDiscriminator(3)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.05, momentum=0.9)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(made(images), domains).backward()
        optimizer.step()
    optimizer.zero_grad()
    assert (made(images).argmax(1) == domains).float().mean() > 0.9
    return made


def test_it_fails_on_images_that_are_moved_by_a_few_levels(
    discriminator: DomainDiscriminator, tinted: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, domains = tinted
    before = F.cross_entropy(discriminator(images), domains).item()
    losses = []
    for strength in (1.0, 4.0, 16.0):
        moved = aligned(discriminator, images, domains, strength)
        assert (moved - images.float()).abs().max() <= strength
        assert moved.dtype == torch.float32
        assert not moved.requires_grad
        losses.append(F.cross_entropy(discriminator(moved), domains).item())
    assert before < losses[0] < losses[1]
    assert losses[2] > 3 * before
    assert all(parameter.grad is None for parameter in discriminator.parameters())


def test_it_is_the_sign_of_the_gradient_by_finite_differences(
    discriminator: DomainDiscriminator, tinted: tuple[torch.Tensor, torch.Tensor]
) -> None:
    with torch.no_grad():  # of the image whose domain is least certain, the longest gradient
        unsure = F.cross_entropy(discriminator(tinted[0]), tinted[1], reduction="none").argmax()
    images, domains = tinted[0][unsure][None], tinted[1][unsure][None]
    exact = DomainDiscriminator(3).double()
    exact.load_state_dict(discriminator.double().state_dict())
    discriminator.float()
    exact.forward = lambda pixels: exact.layers(pixels / 127.5 - 1)  # type: ignore[method-assign]
    delta = aligned(discriminator, images, domains, 2.0) - images.float()
    pixels, step = images.double(), 1e-3
    for row, column in ((3, 5), (10, 10), (17, 2)):
        one = torch.zeros_like(pixels)
        one[0, 1, row, column] = step
        slope = F.cross_entropy(exact(pixels + one), domains) - F.cross_entropy(exact(pixels - one), domains)
        assert delta[0, 1, row, column] == 2 * slope.sign()


def test_pixels_stay_pixels_and_it_works_where_no_gradients_are_kept(discriminator: DomainDiscriminator) -> None:
    images = torch.cat([torch.zeros(1, 3, 20, 20), torch.full((1, 3, 20, 20), 255.0)]).to(torch.uint8)
    with torch.no_grad():
        moved = aligned(discriminator, images, torch.tensor([0, 1]), 9.0)
    assert moved.min() == 0
    assert moved.max() == 255
    assert (moved != images).any()


def test_samples_are_moved_each_for_itself(
    discriminator: DomainDiscriminator, tinted: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, domains = tinted
    together = aligned(discriminator, images, domains, 3.0)
    apart = torch.cat([aligned(discriminator, images[i : i + 1], domains[i : i + 1], 3.0) for i in range(8)])
    assert (together[:8] == apart).float().mean() > 0.999, "a gradient of about 0 may round to either side"
