"""Networks that are trained from scratch: the published ones by name, or one's own."""

import copy
import difflib
import inspect
import math
from collections import OrderedDict
from dataclasses import dataclass
from numbers import Real

import torch
from torch import nn

from sklearn_cxr.neural_network._constraints import check_widths, is_size
from sklearn_cxr.neural_network._network import OutputLinear

_OPTIONS = ("channels", "dense", "kernel_size", "dropout", "batch_norm")


@dataclass(frozen=True)
class Architecture:
    """Layers of a published network.

    Parameters
    ----------
    channels : tuple of int
        Output channels of each convolution; each is followed by a pooling by 2.

    dense : tuple of int
        Widths of the dense layers before the output.

    size : int
        Side of the images, in pixels, that it was published for.

    kernel_size : int, default=3
        Side of the convolutions, in pixels.

    dropout : float, default=0.0
        Share of the activations that is dropped after each dense layer.

    batch_norm : bool, default=False
        Whether each convolution is followed by batch normalisation.
    """

    channels: tuple
    dense: tuple
    size: int
    kernel_size: int = 3
    dropout: float = 0.0
    batch_norm: bool = False


ARCHITECTURES = {
    "baseline": Architecture(channels=(32, 64, 128, 128), dense=(512,), size=150),
    "conv3-dense1024": Architecture(channels=(32, 64, 256), dense=(1024,), size=150),
    "conv2-dense128": Architecture(channels=(64, 128), dense=(128,), size=128, dropout=0.2),
}


class ConvNet(nn.Module):
    """Convolutions with pooling, then dense layers.

    Each convolution keeps the size of its input and is followed by a 2 x 2 maximum and ReLU. The
    maximum comes first: the result and its gradient are the same, at a quarter of the cost.

    Parameters
    ----------
    in_channels : int
        Channels of the images.

    size : tuple of (int, int)
        Height and width of the images, in pixels.

    n_outputs : int
        Number of logits.

    channels, dense : sequence of int
        Output channels of the convolutions, widths of the dense layers.

    kernel_size : int, default=3
        Side of the convolutions, in pixels; odd.

    dropout : float, default=0.0
        Share of the activations that is dropped after each dense layer.

    batch_norm : bool, default=False
        Whether each convolution is followed by batch normalisation.
    """

    def __init__(
        self,
        in_channels,
        size,
        n_outputs,
        *,
        channels,
        dense,
        kernel_size=3,
        dropout=0.0,
        batch_norm=False,
    ):
        super().__init__()
        layers = OrderedDict()
        for i, width in enumerate(channels, start=1):
            layers[f"conv{i}"] = nn.Conv2d(
                # The shift of the batch normalisation makes a bias redundant.
                in_channels, width, kernel_size, padding=kernel_size // 2, bias=not batch_norm
            )  # fmt: skip
            if batch_norm:
                layers[f"norm{i}"] = nn.BatchNorm2d(width)
            layers[f"pool{i}"] = nn.MaxPool2d(2)
            layers[f"relu{i}"] = nn.ReLU()
            in_channels = width
        self.features = nn.Sequential(layers)

        layers = OrderedDict()
        width_in = in_channels * math.prod(side >> len(channels) for side in size)
        for i, width in enumerate(dense, start=1):
            layers[f"dense{i}"] = nn.Linear(width_in, width)
            layers[f"relu{i}"] = nn.ReLU()
            if dropout:
                layers[f"dropout{i}"] = nn.Dropout(dropout)
            width_in = width
        layers["output"] = OutputLinear(width_in, n_outputs)
        self.head = nn.Sequential(layers)

    def forward(self, images):
        """Return the logits of images.

        Parameters
        ----------
        images : Tensor of shape (n, c, h, w), floating
            A batch.

        Returns
        -------
        Tensor of shape (n, n_outputs)
            Logits.
        """
        return self.head(self.features(images).flatten(1))


def build_architecture(
    architecture,
    *,
    image_shape,
    n_outputs,
    channels=None,
    dense=None,
    kernel_size=None,
    dropout=None,
    batch_norm=None,
):
    """Build a network that is trained from scratch.

    Parameters
    ----------
    architecture : str, nn.Module class, callable or nn.Module
        A name from the table in the notes; a class or factory, which is called with those of
        `image_shape` and `n_outputs`, and of the options below that are given, that are among
        its parameters; or a module, which is copied with the weights that it has.

    image_shape : tuple of (int, int, int)
        Height and width, in pixels, and number of channels.

    n_outputs : int
        Number of logits.

    channels : sequence of int or None, default=None
        Output channels of each convolution, and by that their number. None: as published, here
        and below.

    dense : sequence of int or None, default=None
        Widths of the dense layers before the output; () for none.

    kernel_size : int or None, default=None
        Side of the convolutions, in pixels; odd.

    dropout : float or None, default=None
        Share of the activations, in [0, 1), that is dropped after each dense layer.

    batch_norm : bool or None, default=None
        Whether each convolution is followed by batch normalisation.

    Returns
    -------
    nn.Module
        Takes a floating Tensor of shape (n, c, h, w), returns logits of shape (n, n_outputs).
        New weights are drawn from torch's global generator.

    Raises
    ------
    ValueError
        If the name is unknown, with the nearest ones; if an option is out of its range or not
        taken by the class; if the images are too small for the poolings; or if a network of
        one's own does not return logits of that shape.

    Notes
    -----
    Parameters are counted at the published size, with one channel and one output.

    =================== ============= ====== ======= ====== ==========================
    Name                Convolutions  Dense  Dropout Pixels Parameters
    =================== ============= ====== ======= ====== ==========================
    ``baseline``        32, 64, 128,  512    0       150    5,549,697
                        128
    ``conv3-dense1024`` 32, 64, 256   1024   0       150    85,103,233, of which
                                                            84,935,680 in the dense layer
    ``conv2-dense128``  64, 128       128    0.2     128    16,851,969
    =================== ============= ====== ======= ====== ==========================

    Convolutions are 3 x 3 with ReLU and keep the size; a 2 x 2 maximum follows each. The source
    of ``baseline`` gives four such convolutions, and no widths: these are our choice. That of
    ``conv2-dense128`` names one pooling; the second is assumed, as poolings lie between
    convolutions and dense layers there.

    Examples
    --------
    >>> import torch
    >>> from sklearn_cxr.neural_network._architectures import build_architecture
    >>> network = build_architecture(
    ...     "conv2-dense128", image_shape=(32, 32, 1), n_outputs=2, channels=(8, 16)
    ... )
    >>> network(torch.zeros(4, 1, 32, 32)).shape
    torch.Size([4, 2])
    """
    given = dict(zip(_OPTIONS, (channels, dense, kernel_size, dropout, batch_norm), strict=True))
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(architecture, str):
        return _build_published(architecture, image_shape, n_outputs, given)
    if isinstance(architecture, nn.Module):
        module = _copy(architecture, given)
    elif callable(architecture):
        module = _call(architecture, image_shape, n_outputs, given)
    else:
        raise ValueError(
            f"architecture={architecture!r} is not known; expected one of "
            f"{', '.join(map(repr, ARCHITECTURES))}, an nn.Module class, a function that returns "
            "a module, or a module."
        )
    _check_logits(module, architecture, image_shape, n_outputs)
    return module


def _build_published(name, image_shape, n_outputs, given):
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=2, cutoff=0.4)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(
            f"architecture={name!r} is not known; expected one of "
            f"{', '.join(map(repr, ARCHITECTURES))}.{hint} Pretrained backbones are for "
            "TransferClassifier."
        )
    options = {key: getattr(ARCHITECTURES[name], key) for key in _OPTIONS} | given
    for key in ("channels", "dense"):
        options[key] = check_widths(key, options[key])
    kernel_size, dropout = options["kernel_size"], options["dropout"]
    if not is_size(kernel_size) or not kernel_size % 2:
        raise ValueError(f"Got kernel_size={kernel_size!r}; expected an odd number of pixels.")
    if not isinstance(dropout, Real) or isinstance(dropout, bool) or not 0 <= dropout < 1:
        raise ValueError(f"Got dropout={dropout!r}; expected a share of 0 or more, below 1.")
    *size, in_channels = image_shape
    n_pools = len(options["channels"])
    if min(size) < 2**n_pools:
        raise ValueError(
            f"Images of {size[0]} x {size[1]} pixels are too small for {name!r} with {n_pools} "
            f"convolutions, each of which halves them; expected at least {2**n_pools} x "
            f"{2**n_pools}. Resize the images, or give fewer convolutions, for example "
            f"channels={_fewer(options['channels'], size)}."
        )
    return ConvNet(in_channels, size, n_outputs, **options)


def _fewer(channels, size):
    return channels[: int(math.log2(min(size)))]


def _name_of(architecture):
    return getattr(architecture, "__name__", None) or repr(architecture)


def _copy(module, given):
    if given:
        raise ValueError(
            f"Got {', '.join(given)} for a module of class {type(module).__name__}, which has its "
            "layers already. Leave them None, or pass the class."
        )
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise ValueError(
            f"The module of class {type(module).__name__} cannot be copied ({error}), and "
            "training must not change the one that was given. Pass its class, or a function "
            "that makes it."
        ) from error


def _call(factory, image_shape, n_outputs, given):
    """Call a class or factory with what its signature takes."""
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # some classes written in C have none
        parameters = {}
    # nn.Module itself has **kwargs in its signature, only to refuse them.
    takes_all = getattr(factory, "__init__", None) is not nn.Module.__init__ and any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )

    def takes(name):
        positional = name in parameters and (
            parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY
        )
        return (takes_all or name in parameters) and not positional

    refused = [name for name in given if not takes(name)]
    if refused:
        raise ValueError(
            f"Got {', '.join(refused)}, which {_name_of(factory)} does not take; its parameters "
            f"are ({', '.join(parameters)}). Leave them None, or give it such parameters."
        )
    options = {"image_shape": tuple(image_shape), "n_outputs": n_outputs} | given
    module = factory(**{name: value for name, value in options.items() if takes(name)})
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"architecture={_name_of(factory)} returned {type(module).__name__}; expected a "
            "torch.nn.Module."
        )
    return module


def _check_logits(module, architecture, image_shape, n_outputs):
    h, w, c = image_shape
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    images = torch.zeros(2, c, h, w, dtype=like.dtype, device=like.device)
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            logits = module(images)
    except Exception as error:
        raise ValueError(
            f"architecture={_name_of(architecture)} cannot take images of {h} x {w} pixels and "
            f"{c} channels, a tensor of shape {tuple(images.shape)}: {error}"
        ) from error
    finally:
        for part, mode in training.items():
            part.training = mode
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, n_outputs):
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"architecture={_name_of(architecture)} returned {got} for two images; expected "
            f"logits of shape (2, {n_outputs}). The parameter n_outputs of its signature, if it "
            "has one, is given that number."
        )
