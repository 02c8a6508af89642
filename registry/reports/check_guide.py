"""Guide to the checks of the viability test: the meaning of a failure for the user of a cell, and the usual remedy."""

from __future__ import annotations

from dataclasses import dataclass

from registry.catalog.check_names import HOST_AUDIT


@dataclass(frozen=True)
class Guide:
    """Advice on a failed check.

    Attributes:
        meaning: Consequence for the use of the cell.
        remedy: Step that usually helps.
    """

    meaning: str
    remedy: str


LIFT = "lift"  # the check of one task is named ``lift, `` and the task

GUIDES = {
    HOST_AUDIT: Guide(
        "The gradient of a host of the frozen trials is itself walked back. What such a host does to the cell proves nothing, "
        "so there is no verdict.",
        "Give a host whose blocks still learn: fewer of them, a smaller learning rate, a normalised stream.",
    ),
    "finite": Guide(
        "The weights or the reconstructions contain NaN or infinity. Nothing computed with the cell can be used.",
        "Train again with a lower learning rate, or package a checkpoint from before the loss diverged.",
    ),
    "radius": Guide(
        "The rows of M do not have length 1, so the tokens are not points on the sphere. CV, alignment and hosts assume that "
        "they are.",
        "Check that the weights fit the spec and have not been rescaled, then package the cell again.",
    ),
    "rank": Guide(
        "The tokens use only a few of their D directions. A host gets fewer features than the width suggests.",
        "Train longer or on more varied images. If the rank stays low, choose a smaller D.",
    ),
    "band": Guide(
        "The measured axial CV is not in the band that the manifest states. The cell has another geometry than its name says.",
        "Package the cell again, so that its band is the measured one. To stay in the band, train again with another seed.",
    ),
    "on attractor": Guide(
        "The axial CV is far from that of points spread uniformly on the sphere. This is only reported: specialists differ.",
        "None is needed. For a general cell, train with a stronger soft hand or on more varied images.",
    ),
    "triage": Guide(
        "Early in training, at the triage step, the axial CV was not yet in the band of the finished cell. The geometry may be "
        "an accident of this run.",
        "Train again with another seed, and stop runs that fail triage.",
    ),
    "stable": Guide(
        "The axial CV moved by more than 15% after triage, or is too uncertain. The geometry depends on when training stopped.",
        "Train with a schedule that lowers the learning rate towards the end, or package a checkpoint before the change.",
    ),
    "history": Guide(
        "The manifest lacks readings of the training that it records, or the last one is not of this cell. The cell is not "
        "shown to be stable.",
        "Package the cell from its run, so that the trajectory is complete, or repeat the recorded command.",
    ),
    "retrained": Guide(
        "The recorded command does not lead to the readings of the manifest. The history that tiers 1 and 2 rest on is not "
        "its history.",
        "Train the cell again with its command, and package that run.",
    ),
    "error, mean": Guide(
        "The reconstructions are not reliably better than an image of the mean colour. The tokens carry almost no content.",
        "Train longer, or with a lower learning rate. Check that the training images resemble those of the probe.",
    ),
    "error, claimed": Guide(
        "The error is not the one that the manifest states. The weights may not be those that the manifest describes.",
        "Pull the cell again and run `batteries verify`. If the cell is yours, package it again.",
    ),
    "CV, claimed": Guide(
        "The CV is not the one that the manifest states. The weights may not be those that the manifest describes, or it was "
        "edited.",
        "Pull the cell again and run `batteries verify`. If the cell is yours, package it again.",
    ),
    "error, untrained": Guide(
        "The error is not reliably lower than that of untrained cells of the same spec. Training has added little.",
        "Train longer, or on images that resemble those of the probe.",
    ),
    "rows": Guide(
        "Some rows of M never change, or are copies of others. The cell is narrower than its spec says.",
        "Train again with the orthogonal initialisation, a lower learning rate, or a smaller V.",
    ),
    "error, worst type": Guide(
        "On one noise type or photograph the cell does no better than a single colour: it does not know that kind of image.",
        "Train on images of every kind that the cell is to read, or state the kinds it knows in its description.",
    ),
    "error, worst image": Guide(
        "On at least one image of the probe the cell does no better than a single colour, although its mean error may be low.",
        "Look at the image of largest error. Train longer, or on more varied images.",
    ),
    "error, mirrored": Guide(
        "The error on mirror images of the probe is higher than on the probe: the cell seems to have been trained on it. "
        "Its figures say little about other images.",
        "Train on images without the probe's, and package the cell again.",
    ),
    "read-out, M": Guide(
        "A read-out gets no more of the image from M than from that of untrained cells: the encoder has learned nothing.",
        "Check that the encoder's weights were trained and are not frozen, then train longer.",
    ),
    "read-out, omega": Guide(
        "A read-out gets no more of the image from omega than from that of untrained cells. The cell reconstructs, but omega "
        "tells a host nothing.",
        "Use the cell as a reconstructor, through M. For tokens, train another: a lower learning rate keeps S varied.",
    ),
    "frozen digest": Guide(
        "The weights changed in a host that should keep them frozen. Results with this host cannot be compared or repeated.",
        "Mount the cell with the classes of composer, and do not write to its weights in a host of your own.",
    ),
    "frozen CV": Guide(
        "The features of the host's input around the frozen cell lose their geometry while the host learns.",
        "Lower the learning rate of the host, or train the cell on images closer to those of the task.",
    ),
    "frozen rank": Guide(
        "In a host, the effective rank of the frozen cell's tokens changes: the host feeds it images of few directions.",
        "Lower the learning rate of the host, or train the cell on images closer to those of the task.",
    ),
    "frozen gradient": Guide(
        "Almost no gradient passes through the frozen cell. Layers before it cannot learn.",
        "Check for saturated or collapsed tokens. A cell with a higher effective rank usually passes the gradient.",
    ),
    LIFT: Guide(
        "A host learns the task no better with the cell than with untrained cells. The features do not help this task.",
        "Use a cell of the task's domain, or train on images closer to those of the task.",
    ),
    "dosed CV": Guide(
        "Fine-tuning at the deciding dose changes the geometry of the cell. Alignments made before no longer hold.",
        "Keep the cell frozen in hosts, or fine-tune with a lower learning rate. Longer training often helps too.",
    ),
    "dosed rank": Guide(
        "Fine-tuning at the deciding dose changes the effective rank of the tokens: they gain or lose directions.",
        "Keep the cell frozen in hosts, or fine-tune with a lower learning rate. Longer training often helps too.",
    ),
    "content kept": Guide(
        "Fine-tuning at the deciding dose makes the cell forget part of what it can reconstruct.",
        "Keep the cell frozen in hosts, or fine-tune with a lower learning rate or a reconstruction loss beside the task's.",
    ),
    "retention": Guide(
        "The error grows when a host's gradient updates the cell. This is reported beside the share of content kept.",
        "Keep the cell frozen in hosts, or fine-tune with a lower learning rate.",
    ),
}


def guide(check: str) -> Guide | None:
    """Return the advice on a check; None for one of an unknown protocol.

    >>> guide("lift, name the noise type") == guide("lift")
    True
    """
    return GUIDES.get(LIFT if check.startswith(f"{LIFT}, ") else check)
