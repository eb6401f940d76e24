"""The Gymnasium environment: the robot applies the action, the world steps, the task judges."""

import copy
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from sim.actions import PLANAR_TWIST
from sim.bodies import ROBOT, Bodies, Observation
from sim.contacts import Contact
from sim.geometry.rotations import compute_yaw
from sim.layout import MAX_LENGTH_M, Layout
from sim.policy import EpisodeStart, SimState
from sim.scenes.scene import Scene, scenes
from sim.sensors.appearance import sample_appearance
from sim.sensors.cameras import CAMERAS, MAX_PIXELS, CameraImage
from sim.sensors.lidar import is_in_sight, measure_ranges
from sim.task import MISSING_GOAL
from sim.utils.errors import BadLayout, GroundError, UnknownName
from sim.variation import VARIED, Variation, Variations
from sim.world import MotionFrame, SceneWorld

MAX_VALUE = 1e4  # bound of all lengths and speeds in an observation [m, m/s]
LIDAR_RANGE_M = 10.0


class GroundEnv(gymnasium.Env[Observation, np.ndarray]):
    """A scene as a Gymnasium environment.

    An observation is a dictionary of arrays:

    - the fields of `Bodies`, with a row for each of N bodies. Agents that are farther away than the
      scene's `sight_range_m`, or hidden behind boxes, are not `present`.
    - `footprints` (N, P, 4): the boxes of each body, as x, y, half width, half depth in its frame
      [m]; zero for a cylinder.
    - `goal` (3,) or (G, 3): x, y [m] and yaw [rad].
    - `action_twist` (6, n): body-frame twist that each component of the action commands at 1.
    - `unit_m` (1,): length by which models scale lengths.
    - `measured_inertia` (N, 4): mass [kg] and centre of mass [m] in the body's frame, where the
      robot has measured them; zeros elsewhere. Only in scenes that measure them.
    - `lidar` (R,): distances around the robot [m], if `lidar_rays` is positive.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 10}  # noqa: RUF012, as Gymnasium declares it

    def __init__(
        self,
        scene: str | Scene,
        split: str = "train",
        layout: Layout | None = None,
        layouts: int = 1000,
        variations: Variations | None = None,
        render_mode: str | None = None,
        render_size: tuple[int, int] = (480, 360),
        lidar_rays: int = 0,
    ) -> None:
        """Create an environment. The first `reset` starts the physics engine.

        Args:
            scene: a scene or its name.
            split: the split that layouts and variations are sampled from.
            layout: layout of all episodes; None: each reset samples a layout. A layout with more
                boxes than the scene's `max_static` needs more rows of bodies, which the observation
                space has only if the layout is given here.
            layouts: number of layouts of the split to sample from.
            variations: distribution of physics and appearance; None: that of the split.
            render_mode: "rgb_array", "human" or None.
            render_size: width and height of images of `render` [pixels].
            lidar_rays: number of lidar rays R.

        Raises:
            UnknownName: unknown scene, split or render mode.
            GroundError: another argument is of the wrong kind.
        """
        _check_arguments(layout, layouts, variations, render_mode, lidar_rays)
        self.scene = scene if isinstance(scene, Scene) else scenes[scene]
        # all that a copy is made from, with the episode
        self._arguments = (scene, split, layout, layouts, variations, render_mode, render_size, lidar_rays)
        self._episode = _EpisodeRecord()
        self.render_mode = render_mode
        self._render_size = render_size
        self._lidar_rays = lidar_rays
        self._split = split
        self._layout = layout
        self._layouts = layouts
        self._variations = variations
        self._world: SceneWorld | None = None
        self._spec = self.scene.action_spec
        self.action_space = gymnasium.spaces.Box(-1, 1, (self._spec.size,), np.float32)
        n = self.scene.max_dynamic + self.scene.count_static_rows(layout)
        max_kind = np.iinfo(np.int8).max

        def make_box(low: float, high: float, *shape: int) -> gymnasium.spaces.Box:
            return gymnasium.spaces.Box(low, high, shape, np.float32)

        self.observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]  # a Space of Spaces, by its type
            {
                "pose": make_box(-MAX_VALUE, MAX_VALUE, n, 7),
                "twist": make_box(-MAX_VALUE, MAX_VALUE, n, 6),
                "half_extents": make_box(0, MAX_VALUE, n, 3),
                "kind": gymnasium.spaces.Box(0, max_kind, (n,), np.int8),
                "shape": gymnasium.spaces.Box(0, max_kind, (n,), np.int8),
                "present": gymnasium.spaces.MultiBinary(n),
                "goal": make_box(-MAX_VALUE, MAX_VALUE, *self.scene.goal_shape),
                "action_twist": make_box(0, MAX_VALUE, 6, self._spec.size),
                "footprints": make_box(-MAX_VALUE, MAX_VALUE, n, self.scene.footprint_size, 4),
                "unit_m": make_box(0, MAX_VALUE, 1),
                **({"measured_inertia": make_box(-MAX_VALUE, MAX_VALUE, n, 4)} if self.scene.measures_inertia else {}),
                **({"lidar": make_box(0, LIDAR_RANGE_M, lidar_rays)} if lidar_rays else {}),
            }
        )

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: seed of the environment's generator; None: it continues.
            options: optional entries "layout" (a Layout or the path of its file), "split" and
                "index" (number of a layout in the split), "variation" (a Variation, or a dictionary
                of the values to change, such as {"load_mass_kg": 3}) and "poses" ((M, 3) x, y, yaw
                of the first M dynamic bodies: the robot, loads, agents [m, rad]).

        Returns:
            The observation, and the information of the first state, as from `step`.

        Raises:
            UnknownName: unknown option, split or field of the variation.
            BadLayout: the layout has faults, or too many loads or agents for the scene.
            GroundError: a value of the variation is out of bounds.
        """
        given = _read_options({} if options is None else options)
        split = given.get("split", self._split)
        if "split" in given and split not in self.scene.splits:
            raise UnknownName("split", str(split), self.scene.splits)
        super().reset(seed=seed)
        self._episode = _EpisodeRecord(self.np_random.bit_generator.state, given)
        variations = self._variations or self.scene.get_variations(split)
        self._behaviour_seed = int(self.np_random.integers(2**31)) if self.scene.max_traffic else 0
        self._rng_state = self.np_random.bit_generator.state
        self._has_appearance = False
        self.variation = self._sample_variation(variations, given.get("variation"))
        index = given.get("index", int(self.np_random.integers(self._layouts)))
        self.layout = self._select_layout(given.get("layout"), "split" in given or "index" in given, split, index)
        self._build(given.get("poses"))
        self.step_count = self._steps_at_goal = 0
        self._pending_actions = deque([(0.0,) * self._spec.size] * self.variation.latency_steps)
        self.cost_field = self.scene.task.get_cost_field(self.bodies, self._observation["goal"])
        return self._observe(), self._evaluate_state((0.0,) * self._spec.size)[1]

    def _sample_variation(self, variations: Variations, given: Variation | Mapping[str, Any] | None) -> Variation:
        if isinstance(given, Variation):
            return given
        sampled = variations.sample(self.np_random)
        texts = tuple(f"{name}={value}" for name, value in (given or {}).items())
        return Variations.parse(texts, sampled).sample(self.np_random) if texts else sampled

    def _select_layout(self, given: Layout | None, is_from_split: bool, split: str, index: int) -> Layout:
        if given is None and not is_from_split:
            given = self._layout
        return given or self.scene.sample_layout(split, index)

    def _build(self, poses: np.ndarray | None) -> None:
        """Build the layout in the world; `poses` (M, 3) replace those of the first M bodies."""
        scene = self.scene
        layout = self.layout
        if faults := scene.find_capacity_faults(layout):
            raise BadLayout(layout.name or layout.id, faults)
        max_poses = scene.max_dynamic if scene.make_world else 1 + len(layout.loads) + len(layout.traffic)
        if poses is not None and len(poses) > max_poses:
            raise GroundError(f"reset option poses has {len(poses)} rows; the layout has {max_poses} dynamic bodies")
        if self._world is None:
            self._world = scene.create_world(self.render_mode == "human")
        bodies, footprints = self._world.start_episode(scene, layout, self.variation, self._behaviour_seed, poses)
        self._num_dynamic = count = len(bodies.kind)
        self._observation = observation = _make_empty_observation(scene, layout)
        self.bodies = Bodies.from_observation(observation)  # the same arrays
        static = layout.static_bodies
        rows = slice(scene.max_dynamic, scene.max_dynamic + len(static.kind))
        for field_ in fields(Bodies):
            observation[field_.name][:count] = getattr(bodies, field_.name)
            observation[field_.name][rows] = getattr(static, field_.name)
        observation["footprints"][rows, 0, 2:] = static.half_extents[:, :2]
        if footprints is not None:
            observation["footprints"][:count] = footprints
        goals = np.full((scene.max_goals, 3), MISSING_GOAL)
        goals[: len(layout.goals)] = [(goal.x, goal.y, goal.yaw) for goal in layout.goals]
        observation["goal"][:] = goals if scene.max_goals > 1 else goals[0]
        observation["action_twist"][:] = scene.make_robot(self.variation).action_spec.twist
        self._read_bodies()

    def describe_bodies(self) -> dict[str, Any]:
        """Describe the bodies without their motion, as fields of an Episode."""
        observation = self._observation
        has_footprints = self.scene.footprint_size > 1 or self.layout.traffic
        has_shapes = bool(self.scene.make_world)
        return {
            "footprints": observation["footprints"][: self._num_dynamic].copy() if has_footprints else None,
            "shape": observation["shape"][: self._num_dynamic].copy() if has_shapes else None,
            "kind": observation["kind"][: self._num_dynamic].copy() if self.layout.traffic else None,
            "action_twist": observation["action_twist"].copy(),
            "unit_m": self.scene.unit_m,
        }

    @property
    def num_dynamic(self) -> int:
        """Number M of dynamic bodies of the episode, also of those that are not present yet."""
        return self._num_dynamic

    def read_measured_inertia(self) -> np.ndarray | None:
        """Read (M, 4) mass [kg] and centre of mass [m], as measured; None where they are not."""
        return self._get_world().read_measured_inertia()

    def _get_world(self) -> SceneWorld:
        assert self._world is not None, "call reset first"
        return self._world

    def _read_bodies(self) -> None:
        """Read the state of the dynamic bodies into `bodies`."""
        world = self._get_world()
        poses, twists = world.read_dynamic_bodies()
        self._observation["pose"][: self._num_dynamic] = poses
        self._observation["twist"][: self._num_dynamic] = twists
        if (present := world.read_present()) is not None:
            self._observation["present"][: self._num_dynamic] = present
        if (inertia := world.read_measured_inertia()) is not None:
            self._observation["measured_inertia"][: self._num_dynamic] = inertia

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Simulate a control step.

        Args:
            action: (n,) in [-1, 1], applied after the latency of the variation.

        Returns:
            The observation, the reward, success, whether the episode ends without success, and
            information: "cost",
            "success", "violations" by kind, "static_force_n" (largest force against a static body)
            and "touching" (the robot touches a dynamic body).

        Raises:
            GroundError: the action has another size, or a number in it is NaN.
        """
        world = self._get_world()
        clipped = self._spec.clip(action)
        self._episode.actions.append(clipped)
        self._pending_actions.append(clipped)
        applied = self._pending_actions.popleft()
        world.step(applied, self.scene.control_dt_s)
        self.step_count += 1
        self._read_bodies()
        cost, info = self._evaluate_state(applied)
        is_over = self.step_count >= self.scene.episode_steps or (world.read_outcome() is not None and not info["success"])
        return self._observe(), -cost, info["success"], is_over, info

    def _evaluate_state(self, action: tuple[float, ...]) -> tuple[float, dict[str, Any]]:
        """Compute the cost and the information of the current state."""
        task = self.scene.task
        goal = self._observation["goal"]
        contacts = self._get_world().read_contacts()
        command = self._observation["action_twist"][PLANAR_TWIST] @ action
        cost = float(
            task.compute_cost(self.bodies, action, goal, self.cost_field)
            + task.compute_violation_penalty(self.bodies, command, self.cost_field)
        )
        x, y = self.bodies.pose[ROBOT, :2].tolist()
        hall = self.layout.hall
        is_inside = hall.x < x < hall.x + hall.width and hall.y < y < hall.y + hall.depth
        has_passed = not self.scene.has_final_test or self._get_world().read_outcome() is True
        self._steps_at_goal = self._steps_at_goal + 1 if has_passed and task.is_success(self.bodies, goal) else 0
        violations = task.find_violations(self.bodies, contacts, is_inside)
        return cost, {
            "cost": cost,
            "success": self._steps_at_goal > self.scene.hold_steps,
            "violations": {**violations, **self._get_world().read_violations()},
            "static_force_n": max([0.0, *(contact.force_n for contact in contacts if contact.is_static)]),
            "touching": any(contact.first == ROBOT and not contact.is_static for contact in contacts),
        }

    def _observe(self) -> Observation:
        observation = {name: values.copy() for name, values in self._observation.items()}
        noise = self.variation.observation_noise
        if noise > 0:
            count = self._num_dynamic
            observation["pose"][:count, :2] += self.np_random.normal(0, noise, (count, 2))
            half_angle = self.np_random.normal(0, noise, count) / 2
            z, w = observation["pose"][:count, 5:7].T.copy()
            observation["pose"][:count, 5] = z * np.cos(half_angle) + w * np.sin(half_angle)
            observation["pose"][:count, 6] = w * np.cos(half_angle) - z * np.sin(half_angle)
            observation["twist"][:count] += self.np_random.normal(0, noise, (count, 6))
        if self._lidar_rays:
            observation["lidar"] = measure_ranges(self.bodies, self._lidar_rays, LIDAR_RANGE_M).astype(np.float32)
        return self._hide_unseen_agents(observation) if self.layout.traffic else observation

    def _hide_unseen_agents(self, observation: Observation) -> Observation:
        """Remove the agents that the robot cannot see from an observation."""
        agents = np.arange(1 + len(self.layout.loads), self._num_dynamic)
        unseen = agents[~is_in_sight(self.bodies, self.bodies.pose[agents, :2], self.scene.sight_range_m)]
        for name in ("pose", "twist", "half_extents", "kind", "shape", "present", "footprints"):
            observation[name][unseen] = 0
        observation["pose"][unseen, 6] = 1
        return observation

    def make_episode_start(self, seed: int) -> EpisodeStart:
        """Make the information for a policy at the start of an episode."""
        return EpisodeStart(seed, self.layout, self.variation, self.read_state)

    def read_state(self) -> SimState:
        """Read the current state, with the parts that are not observed."""
        return self._get_world().read_state()

    def read_link_poses(self) -> np.ndarray:
        """Read the current poses of the robot's links.

        Returns:
            (V, 7) poses of the frames of the robot's `visuals` [m, quaternion xyzw].
        """
        return self._get_world().read_link_poses()

    def read_frames(self) -> list[MotionFrame]:
        """Read the motion within the last step of a scene whose actions are skills."""
        return self._get_world().read_frames()

    def read_time_s(self) -> float:
        """Read the simulated time since the start of the episode."""
        return self._get_world().read_time_s()

    def read_contacts(self) -> list[Contact]:
        """Read the current contacts."""
        return self._get_world().read_contacts()

    def render(self) -> np.ndarray | None:
        """Render the view of the side camera.

        Returns:
            (height, width, 3) uint8; None unless `render_mode` is "rgb_array".
        """
        if self.render_mode != "rgb_array" or self._world is None:
            return None
        return self.render_camera("side", *self._render_size).rgb

    def render_camera(self, camera: str, width: int, height: int) -> CameraImage:
        """Render the current view of a camera.

        Args:
            camera: name of a camera in CAMERAS.
            width: width of the image [pixels].
            height: height of the image [pixels].

        Returns:
            The image; its `body` has the rows of bodies in an observation.

        Raises:
            UnknownName: no camera has this name.
            GroundError: the image size is out of bounds.
        """
        world = self._get_world()
        if camera not in CAMERAS:
            raise UnknownName("camera", camera, CAMERAS)
        if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS):
            raise GroundError(f"an image of {width} × {height} pixels: 1 to {MAX_PIXELS} a side are allowed")
        x, y = self.bodies.pose[ROBOT, :2].tolist()
        place = (x, y, float(compute_yaw(self.bodies.pose[ROBOT, 3:])))
        half_height = float(self.bodies.half_extents[ROBOT, 2])
        height_m = half_height + (float(self.bodies.pose[ROBOT, 2]) if self.scene.make_world else half_height)
        if self.variation.appearance == VARIED and not self._has_appearance:
            # A separate generator: images do not change the random numbers of the episode.
            rng = np.random.default_rng()
            rng.bit_generator.state = self._rng_state
            world.apply_appearance(sample_appearance(rng))
            self._has_appearance = True
        image = world.render(CAMERAS[camera](self.layout.hall, place, height_m, self.scene.unit_m), width, height)
        # An observation has rows for all loads and agents that the scene allows.
        shift = self.scene.max_dynamic - self._num_dynamic
        return replace(image, body=np.where(image.body >= self._num_dynamic, image.body + shift, image.body))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy or pickle the environment as its episode: layout, generator state and actions.

        The copy is independent, with a physics server of its own, and simulates the episode again.
        """
        generator = None if self._np_random is None else self.np_random.bit_generator.state
        return _rebuild_env, (type(self), self._arguments, self.spec, self._episode, generator)

    def close(self) -> None:
        if self._world is not None:
            self._world.close()
            self._world = None


@dataclass
class _EpisodeRecord:
    """All that an episode depends on."""

    generator_state: Any = None  # before the reset; None: no episode yet
    options: dict[str, Any] = field(default_factory=dict)
    actions: list[tuple[float, ...]] = field(default_factory=list)


def _rebuild_env(
    env_class: type[GroundEnv], arguments: tuple[Any, ...], spec: Any, episode: _EpisodeRecord, generator_state: Any
) -> GroundEnv:
    """Make a copy of an environment by simulating its episode again."""
    env = env_class(*arguments)
    env.spec = spec
    if episode.generator_state is not None:
        env.np_random.bit_generator.state = episode.generator_state
        env.reset(options=episode.options)
        for action in episode.actions:
            env.step(np.array(action))
    if generator_state is not None:
        env.np_random.bit_generator.state = generator_state
    return env


def _check_arguments(layout: Any, layouts: Any, variations: Any, render_mode: Any, lidar_rays: Any) -> None:
    """Raise the errors of `GroundEnv`."""
    modes = GroundEnv.metadata["render_modes"]
    if render_mode is not None and render_mode not in modes:
        raise UnknownName("render mode", str(render_mode), modes)
    for name, value, kind in (("layout", layout, Layout), ("variations", variations, Variations)):
        if value is not None and not isinstance(value, kind):
            raise GroundError(f"{name} is {value!r:.100}; a {kind.__name__} of {kind.__module__} is needed")
    for name, value, low in (("layouts", layouts, 1), ("lidar_rays", lidar_rays, 0)):
        if not isinstance(value, int | np.integer) or value < low:
            raise GroundError(f"{name} is {value!r:.100}; a whole number from {low} is needed")


def _read_options(options: Any) -> dict[str, Any]:
    """Read the options of a reset: a copy, which a copy of the environment can use later.

    Raises:
        UnknownName: unknown option.
        BadLayout: the layout's file cannot be read.
        GroundError: a value is of the wrong kind.
    """
    if not isinstance(options, Mapping):
        raise GroundError(f"reset options are {options!r:.100}; a dictionary is needed")
    if unknown := sorted(set(options) - set(OPTION_RULES), key=str):
        raise UnknownName("reset option", str(unknown[0]), OPTION_RULES)
    values = copy.deepcopy({name: value for name, value in options.items() if value is not None})
    if isinstance(values.get("layout"), str | Path):
        values["layout"] = Layout.load(Path(values["layout"]))
    with suppress(TypeError, ValueError, OverflowError):
        values |= {name: np.array(values[name], np.float64) for name in ("poses",) if name in values}
    for name, value in values.items():
        needed, is_right = OPTION_RULES[name]
        if not is_right(value):
            raise GroundError(f"reset option {name} is {value!r:.100}; {needed} is needed")
    return values


def _are_poses(value: Any) -> bool:
    is_table = isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[0] > 0 and value.shape[1] == 3
    return is_table and bool((np.abs(value) <= MAX_LENGTH_M).all())


def _is_finite(variation: Variation) -> bool:
    return all(np.isfinite(value) for value in vars(variation).values() if not isinstance(value, str))


# by option: what is needed, and whether a value is that
OPTION_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "layout": ("a Layout or the path of its file", lambda value: isinstance(value, Layout)),
    "split": ("the name of a split", lambda value: isinstance(value, str)),
    "index": ("a whole number from 0", lambda value: isinstance(value, int | np.integer) and int(value) >= 0),
    "variation": (
        "a Variation of finite values, or a dictionary of the values to change,",
        lambda value: _is_finite(value) if isinstance(value, Variation) else isinstance(value, Mapping),
    ),
    "poses": (f"an array of rows x, y, yaw, at most {MAX_LENGTH_M:g} each,", _are_poses),
}


def _make_empty_observation(scene: Scene, layout: Layout) -> Observation:
    """Make an observation without bodies."""
    n = scene.max_dynamic + scene.count_static_rows(layout)
    pose = np.zeros((n, 7), np.float32)
    pose[:, 6] = 1
    return {
        "pose": pose,
        "twist": np.zeros((n, 6), np.float32),
        "half_extents": np.zeros((n, 3), np.float32),
        "kind": np.zeros(n, np.int8),
        "shape": np.zeros(n, np.int8),
        "present": np.zeros(n, np.int8),
        "goal": np.zeros(scene.goal_shape, np.float32),
        "action_twist": np.zeros((6, scene.action_spec.size), np.float32),
        "footprints": np.zeros((n, scene.footprint_size, 4), np.float32),
        "unit_m": np.array([scene.unit_m], np.float32),
        **({"measured_inertia": np.zeros((n, 4), np.float32)} if scene.measures_inertia else {}),
    }


def _register_envs() -> None:
    """Register each scene in Gymnasium under its id.

    Gymnasium loads no plugins since 1.0: `gymnasium.make("sim.env:ground/TotePush-v0")` imports
    this module, which registers all scenes.
    """
    for name in scenes:
        scene = scenes[name]
        gymnasium.register(scene.gym_id, "sim.env:GroundEnv", max_episode_steps=scene.episode_steps, kwargs={"scene": name})


_register_envs()
