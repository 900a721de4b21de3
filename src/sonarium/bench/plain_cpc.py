"""The two forms of Audio_ML_study's contrastive predictive coding, written plainly from the equations.

Channels come first, horizons are a loop, and every score matrix is computed separately. `OneTime` is the form of
CPC/jefflai108, `AllTimes` that of CPC/Spijkervet; `to_one_time` and `to_all_times` convert weights between them,
as the study's comparison of the two does.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sonarium.models.cpc.cpc import CPCConfig

Wave = Float[Tensor, "clip time"]


def encoder_layers(config: CPCConfig) -> list[list[nn.Module]]:
    """Convolution, batch normalisation and ReLU of each layer."""
    given, layers = 1, []
    encoder = config.encoder
    for made, kernel, stride, padding in zip(
        encoder.widths, encoder.kernels, encoder.strides, encoder.paddings, strict=True
    ):
        layers.append(
            [nn.Conv1d(given, made, kernel, stride, padding, bias=False), nn.BatchNorm1d(made), nn.ReLU()]
        )
        given = made
    return layers


class OneTime(nn.Module):
    """Prediction from one time for all utterances; each horizon has its own linear layer, with a bias."""

    def __init__(self, config: CPCConfig):
        super().__init__()
        width, code = config.context.width, config.encoder.widths[-1]
        self.encoder = nn.Sequential(*[part for layer in encoder_layers(config) for part in layer])
        self.gru = nn.GRU(code, width, batch_first=True)
        self.Wk = nn.ModuleList(nn.Linear(width, code) for _ in range(config.predictors.steps_ahead))

    def encode(self, wave: Wave) -> Float[Tensor, "clip frame code"]:
        return self.encoder(wave.unsqueeze(1)).transpose(1, 2)

    def loss_at(self, latents: Float[Tensor, "clip frame code"], time: int) -> Float[Tensor, ""]:
        """InfoNCE loss at one time: each prediction against the codes of all utterances at the predicted time."""
        context = self.gru(latents[:, : time + 1])[0][:, time]
        total = torch.zeros((), dtype=latents.dtype)
        for step, layer in enumerate(self.Wk, start=1):
            scores = latents[:, time + step] @ layer(context).T
            total = total - torch.log_softmax(scores, dim=0).diagonal().sum()
        return total / (len(self.Wk) * len(latents))


class AllTimes(nn.Module):
    """Prediction from every time; the linear layers have no bias."""

    def __init__(self, config: CPCConfig):
        super().__init__()
        width, code = config.context.width, config.encoder.widths[-1]
        self.seq = nn.Sequential(*[nn.Sequential(*layer) for layer in encoder_layers(config)])
        self.autoregressor = nn.GRU(code, width, batch_first=True)
        steps = range(config.predictors.steps_ahead)
        self.preds = nn.ModuleList(nn.Linear(width, code, bias=False) for _ in steps)

    def encode(self, wave: Wave) -> Float[Tensor, "clip frame code"]:
        return self.seq(wave.unsqueeze(1)).transpose(1, 2)

    def losses(self, latents: Float[Tensor, "clip frame code"]) -> list[Float[Tensor, " time"]]:
        """For each horizon, the loss at every time that has a target at this horizon."""
        context = self.autoregressor(latents)[0]
        found = []
        for step, layer in enumerate(self.preds, start=1):
            predicted = rearrange(layer(context[:, :-step]), "clip time code -> time clip code")
            codes = rearrange(latents[:, step:], "clip time code -> time code clip")
            chances = torch.log_softmax(torch.bmm(predicted, codes), dim=-1)
            found.append(-chances.diagonal(dim1=1, dim2=2).mean(1))
        return found

    def forward(self, wave: Wave) -> Float[Tensor, ""]:
        return torch.stack([losses.mean() for losses in self.losses(self.encode(wave))]).mean()


def to_one_time(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of `AllTimes` under the names of `OneTime`; the biases, which only `OneTime` has, are zero."""
    found = {}
    for name, value in weights.items():
        whose, _, rest = name.partition(".")
        if whose == "seq":
            layer, part, what = rest.split(".")
            found[f"encoder.{3 * int(layer) + int(part)}.{what}"] = value
        elif whose == "autoregressor":
            found[f"gru.{rest}"] = value
        else:
            found[f"Wk.{rest}"] = value
            found[f"Wk.{rest.replace('weight', 'bias')}"] = value.new_zeros(len(value))
    return found


def to_all_times(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of `OneTime` under the names of `AllTimes`; raises ValueError for biases other than zero."""
    found = {}
    for name, value in weights.items():
        whose, _, rest = name.partition(".")
        if whose == "encoder":
            number, what = rest.split(".")
            found[f"seq.{int(number) // 3}.{int(number) % 3}.{what}"] = value
        elif whose == "gru":
            found[f"autoregressor.{rest}"] = value
        elif rest.endswith("weight"):
            found[f"preds.{rest}"] = value
        elif value.any():
            raise ValueError(f"{name} is not zero: the form for all times has no constants; set it to zero first")
    return found


def to_ours(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of `AllTimes` under the names of our learner; the predictors of all horizons are one matrix."""
    found, predicted = {}, {}
    for name, value in weights.items():
        whose, _, rest = name.partition(".")
        if whose == "seq":
            layer, part, what = rest.split(".")
            found[f"encoder.layers.{layer}.{('convolution', 'norm')[int(part)]}.{what}"] = value
        elif whose == "autoregressor":
            found[f"contexts.0.network.{rest}"] = value
        else:
            predicted[int(rest.partition(".")[0])] = value
    return found | {"predictors.0.layers.weight": torch.cat([predicted[number] for number in sorted(predicted)])}
