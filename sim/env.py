"""The Gymnasium environment: the robot applies the action, the world steps, the task judges."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from sim.actions import PLANAR_TWIST
from sim.bodies import ROBOT, Bodies, Kind, Observation, Shape
from sim.bullet.world import World
from sim.contacts import Contact
from sim.geometry.rotations import compute_yaw, make_upright_poses
from sim.layout import Layout
from sim.policy import EpisodeStart, SimState
from sim.scenes.scene import Scene, scenes
from sim.sensors.appearance import sample_appearance
from sim.sensors.cameras import CAMERAS, MAX_PIXELS, CameraImage
from sim.sensors.lidar import is_in_sight, measure_ranges
from sim.utils.errors import BadLayout, GroundError, UnknownName
from sim.variation import VARIED, Variation, Variations

MAX_VALUE = 1e4  # bound of every length and speed in an observation [m, m/s]
LIDAR_RANGE_M = 10.0


class GroundEnv(gymnasium.Env[Observation, np.ndarray]):
    """A scene as a Gymnasium environment.

    Beside Bodies, goal (x, y, yaw) and the robot's action limits, an observation has `pieces`: the boxes that each body is made
    of (x, y, half width, half depth in its frame [m]; none for a cylinder), and `unit_m`, by which models scale lengths.
    Traffic that is farther away than the scene's `sight_m`, or behind boxes, is not in it. With `lidar_rays` it has so many
    ranges, `lidar`, around the robot [m]. Without `layout`, each reset draws one of the first `layouts` spaces of `split`.
    A layout with more boxes than the scene's `max_static` adds rows of static bodies to its observations. Give such a layout as
    `layout`, so that the observation space has these rows too.
    `reset(options=...)` takes "layout" (a Layout), "index" (its number in the split), "variation" (a Variation) and "poses"
    ((M, 3) x, y, yaw of the first movers: the robot, loads, traffic).
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
        self.scene = scene if isinstance(scene, Scene) else scenes[scene]
        self.render_mode = render_mode
        self._render_size, self._lidar_rays = render_size, lidar_rays
        self._split, self._layout, self._layouts = split, layout, layouts
        self._variations = variations or self.scene.get_variations(split)
        self._world: World | None = None
        self._spec = self.scene.action_spec
        self.action_space = gymnasium.spaces.Box(-1, 1, (self._spec.size,), np.float32)
        n, kinds = self.scene.max_dynamic + self.scene.count_static_rows(layout), np.iinfo(np.int8).max

        def box(low: float, high: float, *shape: int) -> gymnasium.spaces.Box:
            return gymnasium.spaces.Box(low, high, shape, np.float32)

        self.observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]  # a Space of Spaces, by its type
            {
                "pose": box(-MAX_VALUE, MAX_VALUE, n, 7),
                "twist": box(-MAX_VALUE, MAX_VALUE, n, 6),
                "half_extents": box(0, MAX_VALUE, n, 3),
                "kind": gymnasium.spaces.Box(0, kinds, (n,), np.int8),
                "shape": gymnasium.spaces.Box(0, kinds, (n,), np.int8),
                "present": gymnasium.spaces.MultiBinary(n),
                "goal": box(-MAX_VALUE, MAX_VALUE, *self.scene.goal_shape),
                "action_twist": box(0, MAX_VALUE, 6, self._spec.size),
                "footprints": box(-MAX_VALUE, MAX_VALUE, n, self.scene.footprint_size, 4),
                "unit_m": box(0, MAX_VALUE, 1),
                **({"lidar": box(0, LIDAR_RANGE_M, lidar_rays)} if lidar_rays else {}),
            }
        )

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        given = dict(options or {})
        self._behaviour_seed = int(self.np_random.integers(2**31)) if self.scene.max_traffic else 0
        self._rng_state, self._has_appearance = self.np_random.bit_generator.state, False
        self.variation: Variation = given.get("variation") or self._variations.sample(self.np_random)
        index = given.get("index", int(self.np_random.integers(self._layouts)))
        self.layout: Layout = given.get("layout") or self._layout or self.scene.sample_layout(self._split, index)
        self._build(given.get("poses"))
        self.step_count = self._steps_at_goal = 0
        self._pending_actions = deque([(0.0,) * self._spec.size] * self.variation.latency_steps)
        self.cost_field = self.scene.task.get_cost_field(self.bodies, self._observation["goal"])
        return self._observe(), self._evaluate_state((0.0,) * self._spec.size)[1]

    def _build(self, poses: np.ndarray | None) -> None:
        scene, layout = self.scene, self.layout
        loads = len(layout.loads)
        if too_much := scene.find_capacity_faults(layout):
            raise BadLayout(layout.name or layout.id, too_much)
        if self._world is None:
            self._world = World(gui=self.render_mode == "human", averaged=self.scene.has_averaged_forces)
        robot, bodies = scene.make_robot(self.variation), scene.make_loads(layout, self.variation)
        traffic = scene.make_traffic(layout, self.variation, self._behaviour_seed) if layout.traffic else None
        self._world.build(robot, bodies, layout.static_boxes, layout.table_top, traffic)
        self._observation, self._count = _make_empty_observation(scene, layout), 1 + loads + len(layout.traffic)
        self.bodies = Bodies.from_observation(self._observation)  # the same arrays
        fixed, static = self._observation, slice(scene.max_dynamic, scene.max_dynamic + len(layout.static_boxes))
        fixed["half_extents"][ROBOT] = robot.half_extents
        for row, load in enumerate(bodies, 1):
            fixed["half_extents"][row], fixed["kind"][row] = load.half_extents, Kind.LOAD
            fixed["footprints"][row, : len(load.footprint_boxes)] = load.footprint_boxes
        fixed["shape"][ROBOT] = robot.shape
        if traffic:
            others = slice(1 + loads, self._count)
            fixed["half_extents"][others] = traffic.half_extents
            fixed["kind"][others] = traffic.kinds
            fixed["shape"][others] = [manner.shape for manner in traffic.profiles]
            fixed["footprints"][others, 0, 2:] = traffic.half_extents[:, :2] * (fixed["shape"][others, None] == Shape.BOX)
        fixed["present"][: self._count] = 1
        boxes = layout.static_boxes
        fixed["pose"][static] = make_upright_poses(boxes[:, :3], boxes[:, 5])
        fixed["half_extents"][static] = boxes[:, 3:6]
        fixed["footprints"][static, 0, 2:] = boxes[:, 3:5]
        fixed["kind"][static] = boxes[:, 6]
        fixed["present"][static] = 1
        goals = np.full((scene.max_goals, 3), np.nan)
        goals[: len(layout.goals)] = [(goal.x, goal.y, goal.yaw) for goal in layout.goals]
        fixed["goal"][:] = goals if scene.max_goals > 1 else goals[0]
        fixed["action_twist"][:] = robot.action_spec.twist
        starts: list[Any] = [layout.robot, *layout.loads, *layout.traffic]
        usual = np.array([(start.x, start.y, start.yaw) for start in starts])
        poses = usual if poses is None else np.concatenate([poses, usual[len(poses) :]])
        high = [self._world.robot_z_m, *(load.half_extents[2] for load in bodies)]
        heights = np.concatenate([high, traffic.half_extents[:, 2] if traffic else []])
        self._world.set_state(make_upright_poses(poses, heights), np.zeros((self._count, 6)))
        self._read_bodies()

    def describe_bodies(self) -> dict[str, Any]:
        """What an Episode says of its bodies beside their motion."""
        fixed = self._observation
        return {
            "footprints": fixed["footprints"][: self._count].copy()
            if self.scene.footprint_size > 1 or self.layout.traffic
            else None,
            "kind": fixed["kind"][: self._count].copy() if self.layout.traffic else None,
            "action_twist": fixed["action_twist"].copy(),
            "unit_m": self.scene.unit_m,
        }

    def _read_bodies(self) -> None:
        """The true state of the movers into `bodies`."""
        assert self._world is not None
        poses, twists = self._world.read_dynamic_bodies()
        self._observation["pose"][: self._count] = poses
        self._observation["twist"][: self._count] = twists

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        assert self._world is not None, "call reset first"
        self._pending_actions.append(self._spec.clip(action))
        applied = self._pending_actions.popleft()
        self._world.step(applied, self.scene.control_dt_s)
        self.step_count += 1
        self._read_bodies()
        cost, info = self._evaluate_state(applied)
        return self._observe(), -cost, info["success"], self.step_count >= self.scene.episode_steps, info

    def _evaluate_state(self, action: tuple[float, ...]) -> tuple[float, dict[str, Any]]:
        assert self._world is not None
        task, goal, hits = self.scene.task, self._observation["goal"], self._world.read_contacts()
        command = self._observation["action_twist"][PLANAR_TWIST] @ action
        cost = float(
            task.compute_cost(self.bodies, action, goal, self.cost_field)
            + task.compute_violation_penalty(self.bodies, command, self.cost_field)
        )
        x, y = self.bodies.pose[ROBOT, :2].tolist()
        hall = self.layout.hall
        inside = hall.x < x < hall.x + hall.width and hall.y < y < hall.y + hall.depth
        self._steps_at_goal = self._steps_at_goal + 1 if task.is_success(self.bodies, goal) else 0
        touching, force_n = False, 0.0
        for hit in hits:
            touching |= hit.first == ROBOT and not hit.is_static
            force_n = max(force_n, hit.force_n if hit.is_static else 0.0)
        return cost, {
            "cost": cost,
            "success": self._steps_at_goal > self.scene.hold_steps,
            "violations": {**task.find_violations(self.bodies, hits, inside), **self._world.read_robot_faults()},
            "static_force_n": force_n,
            "touching": touching,
        }

    def _observe(self) -> Observation:
        observation = {name: values.copy() for name, values in self._observation.items()}
        noise = self.variation.observation_noise
        if noise > 0:
            count = self._count
            observation["pose"][:count, :2] += self.np_random.normal(0, noise, (count, 2))
            turn = self.np_random.normal(0, noise, count) / 2
            z, w = observation["pose"][:count, 5].copy(), observation["pose"][:count, 6].copy()
            observation["pose"][:count, 5] = z * np.cos(turn) + w * np.sin(turn)
            observation["pose"][:count, 6] = w * np.cos(turn) - z * np.sin(turn)
            observation["twist"][:count] += self.np_random.normal(0, noise, (count, 6))
        if self._lidar_rays:
            observation["lidar"] = measure_ranges(self.bodies, self._lidar_rays, LIDAR_RANGE_M).astype(np.float32)
        return self._hide_unseen_agents(observation) if self.layout.traffic else observation

    def _hide_unseen_agents(self, observation: Observation) -> Observation:
        """Without the traffic that the robot cannot see."""
        others = np.arange(1 + len(self.layout.loads), self._count)
        unseen = others[~is_in_sight(self.bodies, self.bodies.pose[others, :2], self.scene.sight_range_m)]
        for name in ("pose", "twist", "half_extents", "kind", "shape", "present", "footprints"):
            observation[name][unseen] = 0
        observation["pose"][unseen, 6] = 1
        return observation

    def make_episode_start(self, seed: int) -> EpisodeStart:
        """What a policy is told now that an episode begins."""
        return EpisodeStart(seed, self.layout, self.variation, self.read_state)

    def read_state(self) -> SimState:
        """The whole state now, with what no observation shows."""
        assert self._world is not None, "call reset first"
        return self._world.read_state()

    def read_link_poses(self) -> np.ndarray:
        """Poses (V, 7) of what the robot's `visuals` are drawn in, now."""
        assert self._world is not None, "call reset first"
        return self._world.read_link_poses()

    def read_contacts(self) -> list[Contact]:
        """What touches what now."""
        assert self._world is not None, "call reset first"
        return self._world.read_contacts()

    def render(self) -> np.ndarray | None:
        if self.render_mode is None or self._world is None:
            return None
        return self.render_camera("side", *self._render_size).rgb if self.render_mode == "rgb_array" else None

    def render_camera(self, camera: str, width: int, height: int) -> CameraImage:
        """What one of CAMERAS sees now; `body` gives rows of the observation's bodies."""
        assert self._world is not None, "call reset first"
        if camera not in CAMERAS:
            raise UnknownName("camera", camera, CAMERAS)
        if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS):
            raise GroundError(f"a picture of {width} × {height}: 1 to {MAX_PIXELS} pixels a side are possible")
        x, y = self.bodies.pose[ROBOT, :2].tolist()
        place = (x, y, float(compute_yaw(self.bodies.pose[ROBOT, 3:])))
        height_m = 2 * float(self.bodies.half_extents[ROBOT, 2])
        if self.variation.appearance == VARIED and not self._has_appearance:  # only now: it costs nothing where nobody looks
            rng = np.random.default_rng()
            rng.bit_generator.state = self._rng_state  # as it was before the episode: what is drawn here changes nothing there
            self._world.apply_appearance(sample_appearance(rng))
            self._has_appearance = True
        view = CAMERAS[camera](self.layout.hall, place, height_m, self.scene.unit_m)
        picture = self._world.render(view, width, height)
        static = picture.body >= self._count  # loads that are not there have rows in an observation
        return replace(picture, body=np.where(static, picture.body + self.scene.max_dynamic - self._count, picture.body))

    def close(self) -> None:
        if self._world is not None:
            self._world.close()
            self._world = None


def _make_empty_observation(scene: Scene, layout: Layout) -> Observation:
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
    }


def register_envs() -> None:
    """Give every scene its Gymnasium id."""
    for name in scenes:
        if scenes[name].gym_id not in gymnasium.registry:
            gymnasium.register(scenes[name].gym_id, entry_point="sim.env:GroundEnv", kwargs={"scene": name})
