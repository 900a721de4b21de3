"""Configurations of contrastive predictive coding by name, and the systems that they reproduce.

    name                parameters  from
    default                678,528  Sonarium: mel bands, three layers, a GRU of 256
    samples                790,240  Sonarium: five convolutions on samples in their place
    speech                 678,528  Sonarium: the default with negatives of the same speaker, and its training
    study-jefflai108     7,423,488  Audio_ML_study, CPC/jefflai108: one time, 7 other utterances, loss over codes
    study-spijkervet     7,417,344  Audio_ML_study, CPC/Spijkervet: the same at every time, predictors without bias
    jefflai108-cdck2     7,423,488  Contrastive-Predictive-Coding-PyTorch, CDCK2: one time, loss over predictions
    jefflai108-cdck5     5,581,344  its CDCK5: a GRU of two layers of 40
    jefflai108-cdck6     7,331,328  its CDCK6: two GRUs of 128, one of which runs backwards
    spijkervet           7,414,784  contrastive-predictive-coding: 10 negatives from the batch for each time
    cpc-audio           17,656,576  CPC_audio: channels normalised, LSTM, 128 negatives, transformers as predictors
    cpc-audio-linear     2,629,888  the same with matrices as predictors

Intended differences: a negative is never the positive itself (in `spijkervet` it was by chance, one time in a
thousand); the loss of `cpc-audio` is the mean, not the sum, over its 12 steps ahead, and its predictors have no
dropout; the Noam schedule begins at its first step, not at 0.001.
"""

from collections.abc import Callable
from dataclasses import replace

from sonarium.features.waveform import WaveformConfig
from sonarium.models.contract import ModelEntry, Recipe
from sonarium.models.contrast import ContrastConfig
from sonarium.models.cpc.context import ContextConfig
from sonarium.models.cpc.cpc import CPC as ContrastivePredictiveCoding
from sonarium.models.cpc.cpc import CPCConfig, PredictorConfig, complete
from sonarium.models.cpc.encoder import EncoderConfig
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.worlds.contract import SignalKind

UNSCALED = WaveformConfig(level_normalisation="kept")

DEFAULT = CPCConfig(
    encoder=EncoderConfig((128,), kernels=(4, 3, 3), strides=(2, 1, 1), paddings=(1, 1, 1), mels=40),
    predictors=PredictorConfig(steps_ahead=8),
    contrast=ContrastConfig(from_sequence=32, from_batch=64, score="cosine", temperature=0.1),
    schedule=ScheduleConfig(warmup_steps=100),
)
"""For two CPU cores and minutes of sound: the input is log-mel energies, which would take hours of sound to learn,
and predictions reach 160 ms ahead at 50 frames a second. Layer normalisation keeps clips independent of the rest
of the batch. A third of the negatives come from the same recording, so that neither its noise nor its speaker
distinguishes them, and two thirds from the whole batch, so that words do. All times of a clip share their
negatives, which is far cheaper than sampling them for each."""

SAMPLES = replace(DEFAULT, encoder=EncoderConfig(norm="channel"))
"""The default with five narrow convolutions on samples, as in the paper: the filters are learned, which takes more
steps, gains far more from them, and is better on sounds other than speech."""

SPEECH = replace(
    DEFAULT,
    speaker="speaker",
    contrast=replace(DEFAULT.contrast, from_batch=0, from_speaker=64),
    schedule=ScheduleConfig("cosine", warmup_steps=100),
)
"""For speech with speaker labels and without transcripts. Negatives come from the same utterance and the same
speaker, so that only the content distinguishes them; training uses the sound of all splits, without labels."""

STUDY = CPCConfig(
    encoder=EncoderConfig(filters=(512,), norm="batch", bias=False),
    context=ContextConfig(network="gru", width=256),
    predictors=PredictorConfig(steps_ahead=12, predictor_bias=False),
    contrast=ContrastConfig(same_time=True, from_sequence=0, from_batch=0, times="all", side="targets"),
    adam=AdamConfig(1e-3, beta2=0.98, epsilon=1e-9, weight_decay=1e-4, amsgrad=True),
    front=UNSCALED,
)

STUDY_JEFFLAI = replace(
    STUDY,
    predictors=PredictorConfig(steps_ahead=12, predictor_bias=True),
    contrast=replace(STUDY.contrast, times="one"),
)

CDCK2 = replace(
    STUDY_JEFFLAI,
    contrast=replace(STUDY_JEFFLAI.contrast, side="predictions"),
    # Noam's (128 · steps)^−½ at the end of 1000 steps of warm-up.
    adam=replace(STUDY.adam, learning_rate=(128 * 1000) ** -0.5),
    schedule=ScheduleConfig("noam", warmup_steps=1000),
)

SPIJKERVET = CPCConfig(
    encoder=EncoderConfig(filters=(512,), paddings=(2, 2, 2, 2, 1), norm="none", bias=True),
    context=ContextConfig(network="gru", width=256),
    predictors=PredictorConfig(steps_ahead=12, predictor_bias=False),
    contrast=ContrastConfig(from_sequence=0, from_batch=10, drawn="each", times="all"),
    adam=AdamConfig(2e-4),
    front=UNSCALED,
)

CPC_AUDIO = CPCConfig(
    encoder=EncoderConfig(filters=(256,), norm="channel", bias=True),
    context=ContextConfig(network="lstm", width=256),
    predictors=PredictorConfig(form="transformer", steps_ahead=12, span=116),
    contrast=ContrastConfig(from_sequence=0, from_batch=128, drawn="each", times="common", score="mean"),
    adam=AdamConfig(2e-4),
    front=UNSCALED,
)

CONFIGS = {
    "default": DEFAULT,
    "samples": SAMPLES,
    "speech": SPEECH,
    "study-jefflai108": STUDY_JEFFLAI,
    "study-spijkervet": STUDY,
    "jefflai108-cdck2": CDCK2,
    "jefflai108-cdck5": replace(CDCK2, context=ContextConfig(network="gru", width=40, depth=2)),
    "jefflai108-cdck6": replace(CDCK2, context=ContextConfig(network="gru", width=128, bidirectional=True)),
    "spijkervet": SPIJKERVET,
    "cpc-audio": CPC_AUDIO,
    "cpc-audio-linear": replace(
        CPC_AUDIO, predictors=PredictorConfig(form="linear", steps_ahead=12, predictor_bias=False)
    ),
}


def preset(config: CPCConfig) -> Callable[[SignalKind], CPCConfig]:
    """Preset with the same configuration for every kind of signal; the front end refuses pictures."""
    return lambda kind: config


RECIPES = {
    "speech": Recipe(
        steps=1500, clips={"batch_size": 24, "train_on": "all"}, world={"rate": 8000, "seconds": 0.64}
    )
}

PRESETS = {name: preset(config) for name, config in CONFIGS.items()}

CPC = ModelEntry(
    "contrastive predictive coding: future frames against negatives",
    ContrastivePredictiveCoding,
    PRESETS,
    kinds=("wave",),
    recipes=RECIPES,
    main=(
        "mels", "filters", "network", "width", "steps_ahead", "from_sequence", "from_speaker", "from_batch",
        "speaker", "score", "temperature", "learning_rate", "schedule", "warmup_steps",
    ),
    complete=complete,
)  # fmt: skip
