"""Networks of a user's own, small enough for images of a few pixels and for every check."""

from torch import nn


class TinyConvNet(nn.Module):
    """A convolution without pooling, since the checks' images may be one row of one pixel."""

    def __init__(self, image_shape, n_outputs):
        super().__init__()
        height, width, channels = image_shape
        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(6 * height * width, n_outputs),
        )

    def forward(self, images):
        return self.body(images)


class TinyBackbone(nn.Module):
    """Features of any image: brightness in four tones, at three places."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d((1, 3))
        # The checks' values are small beside the range that they are told to be in, films are not.
        self.gain = 500.0

    def forward(self, images):
        return self.pool(self.gain * self.conv(images)).flatten(1).asinh()
