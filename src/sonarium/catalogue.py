"""The models by name."""

from sonarium.models.autoencoders import ANNEALED_VAE, BETA_VAE, DIP_VAE, FACTOR_VAE, TC_VAE, VAE, VQ_VAE
from sonarium.models.contract import ModelEntry
from sonarium.models.cpc.presets import CPC

MODELS: dict[str, ModelEntry] = {
    "vae": VAE,
    "beta-vae": BETA_VAE,
    "annealed-vae": ANNEALED_VAE,
    "factor-vae": FACTOR_VAE,
    "tc-vae": TC_VAE,
    "dip-vae": DIP_VAE,
    "vq-vae": VQ_VAE,
    "cpc": CPC,
}
