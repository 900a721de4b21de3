"""Presets of agents, each with the rollouts that it is meant for.

`study` and `minimalrl` are the settings of Audio_ML_study and of minimalRL's ppo.py, which the study changed to
update once per episode. `zoo` has the settings of RL Baselines3 Zoo for CartPole-v1; `a2c` is advantage
actor-critic with the settings of Stable-Baselines3, but Adam. `seek` is for `sonarium/Seek-v0`. `otoworld-1` and
`otoworld-2` are OtoWorld's two experiments as far as they are valid; they hear through the separator of another
run.
"""

from sonarium.agents import dreamer, ppo, values
from sonarium.agents.contract import AgentEntry, AgentRecipe
from sonarium.agents.dqn import DQN, DQNConfig
from sonarium.agents.dreamer import Dreamer, DreamerConfig
from sonarium.agents.observing.carried import carrying
from sonarium.agents.ppo import PPO, PPOConfig
from sonarium.agents.pqn import PQN, PQNConfig
from sonarium.agents.replay import ReplayConfig
from sonarium.models.objectives import ObjectiveConfig
from sonarium.models.optim import AdamConfig, ScheduleConfig


def minimalrl() -> PPOConfig:
    return PPOConfig(
        units=256,
        layers=1,
        activation="relu",
        shared=True,
        orthogonal=False,
        discount=0.98,
        value_target="one-step",
        bootstrap_truncated=False,
        recompute=True,
        reward_scale=0.01,
        normalise_advantages="none",
        epochs=3,
        minibatches=1,
        clip=0.1,
        value_loss="huber",
        value_weight=1.0,
        entropy_weight=0.0,
        gradient_clip=0.0,
        optimiser=AdamConfig(learning_rate=5e-4),
    )


def a2c() -> PPOConfig:
    return PPOConfig(
        trace=1.0,
        normalise_advantages="none",
        epochs=1,
        minibatches=1,
        clip=0.0,
        entropy_weight=0.0,
        optimiser=AdamConfig(learning_rate=7e-4, epsilon=1e-5),
    )


def zoo() -> PPOConfig:
    return PPOConfig(
        discount=0.98,
        trace=0.8,
        epochs=20,
        minibatches=1,
        clip_decays=True,
        entropy_weight=0.0,
        optimiser=AdamConfig(learning_rate=1e-3, epsilon=1e-5),
        schedule=ScheduleConfig("linear"),
    )


def fast() -> PPOConfig:
    return PPOConfig(
        trace=0.9,
        epochs=10,
        entropy_weight=0.0,
        optimiser=AdamConfig(learning_rate=2e-3, epsilon=1e-5),
        schedule=ScheduleConfig("linear"),
    )


def seek() -> PPOConfig:
    return PPOConfig(
        memory=128,
        sound_rate=8000,
        normalise_rewards=True,
        optimiser=AdamConfig(learning_rate=1e-3, epsilon=1e-5),
        schedule=ScheduleConfig("linear"),
    )


AT_MOST = 10_000
"""Maximum length of an episode in the presets that update once per episode."""
PPO_ENTRY = AgentEntry(
    "proximal policy optimisation (Schulman et al. 2017)",
    carrying(PPO),
    {
        "default": PPOConfig,
        "study": minimalrl,
        "minimalrl": minimalrl,
        "a2c": a2c,
        "zoo": zoo,
        "fast": fast,
        "seek": seek,
    },
    main=(
        "units",
        "memory",
        "shared",
        "discount",
        "trace",
        "epochs",
        "minibatches",
        "clip",
        "entropy_weight",
        "learning_rate",
    ),
    recipes={
        "default": AgentRecipe(500, {"envs": 8, "rollout_steps": 128, "vector": "auto"}),
        "study": AgentRecipe(500, {"envs": 1, "rollout_steps": AT_MOST, "rollout_episodes": 1}),
        "minimalrl": AgentRecipe(5000, {"envs": 1, "rollout_steps": 20, "rollout_episodes": 1}),
        "a2c": AgentRecipe(12_500, {"envs": 8, "rollout_steps": 5, "vector": "auto"}),
        "zoo": AgentRecipe(390, {"envs": 8, "rollout_steps": 32, "vector": "auto"}),
        "fast": AgentRecipe(48, {"envs": 32, "rollout_steps": 32, "vector": "auto"}),
        "seek": AgentRecipe(500, {"envs": 64, "rollout_steps": 32, "vector": "auto"}),
    },
    complete=ppo.complete,
    hears=True,
)


def of_zoo() -> DQNConfig:
    return DQNConfig(
        units=256,
        double=False,
        # Stable-Baselines3 updates the target network between training phases of 128 gradient steps.
        target_update_interval=128,
        epsilon_end=0.04,
        gradient_steps=128,
        optimiser=AdamConfig(learning_rate=2.3e-3),
    )


def r2d2() -> DQNConfig:
    return DQNConfig(
        memory=128,
        sound_rate=8000,
        duelling=True,
        n_steps=5,
        rescaled=True,
        target_update_interval=200,
        batch_size=32,
        gradient_steps=8,
        replay=ReplayConfig(draw="prioritised", sequence_steps=20, burn_in=10, priority_exponent=0.9),
        optimiser=AdamConfig(learning_rate=5e-4, epsilon=1e-3),
    )


OTOWORLD = {"envs": 8, "rollout_steps": 8, "vector": "auto"}


def otoworld(batch_size: int, target_update_interval: int, learning_rate: float) -> DQNConfig:
    return DQNConfig(
        layers=0,
        double=False,
        separated="means",
        discount=0.98,
        loss="absolute",
        target_update_interval=target_update_interval,
        epsilon_start=0.9,
        epsilon_end=0.1,
        epsilon_schedule="exponential",
        learning_starts=batch_size,
        batch_size=batch_size,
        # One per environment step of a rollout.
        gradient_steps=64,
        gradient_clip=0.0,
        replay=ReplayConfig(replay_steps=10_000, draw="episodes", newest=True),
        optimiser=AdamConfig(learning_rate=learning_rate),
    )


def otoworld_1() -> DQNConfig:
    return otoworld(batch_size=10, target_update_interval=150, learning_rate=1e-3)


def otoworld_2() -> DQNConfig:
    return otoworld(batch_size=50, target_update_interval=200, learning_rate=1e-2)


DQN_ENTRY = AgentEntry(
    "deep Q-network (Mnih et al. 2015): double, duelling, recurrent",
    carrying(DQN),
    {
        "default": DQNConfig,
        "zoo": of_zoo,
        "r2d2": r2d2,
        "otoworld-1": otoworld_1,
        "otoworld-2": otoworld_2,
    },
    main=(
        "units",
        "memory",
        "double",
        "duelling",
        "discount",
        "n_steps",
        "target_update_interval",
        "epsilon_end",
        "batch_size",
        "replay_steps",
        "draw",
        "learning_rate",
    ),
    recipes={
        "default": AgentRecipe(1000, {"envs": 8, "rollout_steps": 8, "vector": "auto"}),
        "zoo": AgentRecipe(195, {"envs": 8, "rollout_steps": 32, "vector": "auto"}),
        "r2d2": AgentRecipe(1000, {"envs": 32, "rollout_steps": 8, "vector": "auto"}),
        # 150 and 200 episodes of at most 1,000 steps.
        "otoworld-1": AgentRecipe(2344, OTOWORLD | {"env": "sonarium/OtoWorld-1-v0"}),
        "otoworld-2": AgentRecipe(3125, OTOWORLD | {"env": "sonarium/OtoWorld-2-v0"}),
    },
    complete=values.ending,
    hears=True,
)


def hearing_both() -> PQNConfig:
    return PQNConfig(memory=128, sound_rate=8000)


PQN_ENTRY = AgentEntry(
    "parallelised Q-network (Gallici et al. 2024): Q(λ) without a replay buffer",
    carrying(PQN),
    {"default": PQNConfig, "seek": hearing_both},
    main=(
        "units",
        "memory",
        "layer_norm",
        "duelling",
        "discount",
        "trace",
        "epochs",
        "minibatches",
        "epsilon_end",
        "epsilon_steps",
        "learning_rate",
    ),
    recipes={
        "default": AgentRecipe(300, {"envs": 32, "rollout_steps": 32, "vector": "auto"}),
        "seek": AgentRecipe(500, {"envs": 64, "rollout_steps": 32, "vector": "auto"}),
    },
    complete=values.ending,
    hears=True,
)


def small_dreamer() -> DreamerConfig:
    """Half the default batch size, and two thirds of the imagination horizon."""
    return DreamerConfig(batch_size=8, imagination_horizon=10)


def dreaming_seek() -> DreamerConfig:
    return DreamerConfig(
        sound_rate=8000,
        # Most of the sound is not informative of where it comes from: the rewards weigh more.
        decoder_weight=0.02,
        trace=0.95,
        slow_critic=0.1,
        entropy_weight=0.02,
        entropy_decays=True,
        actor_learning_rate=3e-4,
        learning_starts=2048,
        gradient_steps=16,
        objective=ObjectiveConfig(objective="reconstruction", kl_weight=0.02, kl_balance=0.83, free_nats=1.0),
        schedule=ScheduleConfig("linear"),
    )


DREAMER_ENTRY = AgentEntry(
    "Dreamer (Hafner et al. 2020): actor-critic in the imagination of a world model",
    carrying(Dreamer),
    {"default": DreamerConfig, "small": small_dreamer, "seek": dreaming_seek},
    main=(
        "units",
        "deter",
        "objective",
        "decoder",
        "discount",
        "imagination_horizon",
        "entropy_weight",
        "batch_size",
        "sequence_steps",
        "gradient_steps",
        "learning_rate",
    ),
    recipes={
        "default": AgentRecipe(312, {"envs": 4, "rollout_steps": 8, "vector": "auto"}),
        "small": AgentRecipe(312, {"envs": 4, "rollout_steps": 8, "vector": "auto"}),
        "seek": AgentRecipe(390, {"envs": 16, "rollout_steps": 16, "vector": "auto"}),
    },
    complete=dreamer.complete,
    hears=True,
)
