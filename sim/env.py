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
from sim.contacts import Hit
from sim.geometry.rotations import upright, yaw_of
from sim.layout import Layout
from sim.policy import EpisodeStart, Truth
from sim.scenes.scene import Scene, scenes
from sim.sensors.appearance import drawn
from sim.sensors.cameras import CAMERAS, MOST_PIXELS, Picture
from sim.sensors.lidar import in_sight, lidar
from sim.utils.errors import BadLayout, GroundError, UnknownName
from sim.variation import VARIED, Variation, Variations

FAR = 1e4  # bound of every length and speed in an observation [m, m/s]
LIDAR_REACH_M = 10.0


class GroundEnv(gymnasium.Env[Observation, np.ndarray]):
    """A scene as a Gymnasium environment.

    Beside Bodies, goal (x, y, yaw) and the robot's action limits, an observation has `pieces`: the boxes that each body is made
    of (x, y, half width, half depth in its frame [m]; none for a cylinder), and `unit_m`, by which models scale lengths.
    Traffic that is farther away than the scene's `sight_m`, or behind boxes, is not in it. With `lidar_rays` it has so many
    ranges, `lidar`, around the robot [m]. Without `layout`, each reset draws one of the first `layouts` spaces of `split`.
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
        self._render_size, self._lidar = render_size, lidar_rays
        self._split, self._layout, self._layouts = split, layout, layouts
        self._variations = variations or self.scene.variations_of(split)
        self._world: World | None = None
        self._spec = self.scene.action_spec
        self.action_space = gymnasium.spaces.Box(-1, 1, (self._spec.size,), np.float32)
        n, kinds = self.scene.movers + self.scene.max_static, np.iinfo(np.int8).max

        def box(low: float, high: float, *shape: int) -> gymnasium.spaces.Box:
            return gymnasium.spaces.Box(low, high, shape, np.float32)

        self.observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]  # a Space of Spaces, by its type
            {
                "pose": box(-FAR, FAR, n, 7),
                "twist": box(-FAR, FAR, n, 6),
                "half_extents": box(0, FAR, n, 3),
                "kind": gymnasium.spaces.Box(0, kinds, (n,), np.int8),
                "shape": gymnasium.spaces.Box(0, kinds, (n,), np.int8),
                "present": gymnasium.spaces.MultiBinary(n),
                "goal": box(-FAR, FAR, 3),
                "action_twist": box(0, FAR, 6, self._spec.size),
                "pieces": box(-FAR, FAR, n, self.scene.pieces, 4),
                "unit_m": box(0, FAR, 1),
                **({"lidar": box(0, LIDAR_REACH_M, lidar_rays)} if lidar_rays else {}),
            }
        )

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        given = dict(options or {})
        self._moods = int(self.np_random.integers(2**31)) if self.scene.max_traffic else 0
        self._dice, self._dressed = self.np_random.bit_generator.state, False
        self.variation: Variation = given.get("variation") or self._variations.sample(self.np_random)
        index = given.get("index", int(self.np_random.integers(self._layouts)))
        self.layout: Layout = given.get("layout") or self._layout or self.scene.draw(self._split, index)
        self._build(given.get("poses"))
        self.steps = self._reached = 0
        self._queue = deque([(0.0,) * self._spec.size] * self.variation.latency_steps)
        self.field = self.scene.task.field(self.bodies, self._fixed["goal"])
        return self._observe(), self._judge((0.0,) * self._spec.size)[1]

    def _build(self, poses: np.ndarray | None) -> None:
        scene, layout = self.scene, self.layout
        loads = len(layout.loads)
        if too_much := scene.crowded(layout):
            raise BadLayout(layout.name or layout.id, too_much)
        if self._world is None:
            self._world = World(gui=self.render_mode == "human", averaged=self.scene.averaged)
        robot, bodies = scene.robot(self.variation), scene.loads(layout, self.variation)
        traffic = scene.traffic(layout, self.variation, self._moods) if layout.traffic else None
        self._world.build(robot, bodies, layout.static_boxes, layout.floor, traffic)
        self._fixed, self._count = _empty_observation(scene), 1 + loads + len(layout.traffic)
        self.bodies = Bodies.of(self._fixed)  # the same arrays
        fixed, static = self._fixed, slice(scene.movers, scene.movers + len(layout.static_boxes))
        fixed["half_extents"][ROBOT] = robot.half_extents
        for row, load in enumerate(bodies, 1):
            fixed["half_extents"][row], fixed["kind"][row] = load.half_extents, Kind.LOAD
            fixed["pieces"][row, : len(load.boxes)] = load.boxes
        fixed["shape"][ROBOT] = robot.shape
        if traffic:
            others = slice(1 + loads, self._count)
            fixed["half_extents"][others] = traffic.half_extents
            fixed["kind"][others] = traffic.kinds
            fixed["shape"][others] = [manner.shape for manner in traffic.manners]
            fixed["pieces"][others, 0, 2:] = traffic.half_extents[:, :2] * (fixed["shape"][others, None] == Shape.BOX)
        fixed["present"][: self._count] = 1
        boxes = layout.static_boxes
        fixed["pose"][static] = upright(boxes[:, :3], boxes[:, 5])
        fixed["half_extents"][static] = boxes[:, 3:6]
        fixed["pieces"][static, 0, 2:] = boxes[:, 3:5]
        fixed["kind"][static] = boxes[:, 6]
        fixed["present"][static] = 1
        fixed["goal"][:] = (layout.goal.x, layout.goal.y, layout.goal.yaw)
        fixed["action_twist"][:] = robot.action_spec.twist
        starts: list[Any] = [layout.robot, *layout.loads, *layout.traffic]
        usual = np.array([(start.x, start.y, start.yaw) for start in starts])
        poses = usual if poses is None else np.concatenate([poses, usual[len(poses) :]])
        high = [self._world.robot_z_m, *(load.half_extents[2] for load in bodies)]
        heights = np.concatenate([high, traffic.half_extents[:, 2] if traffic else []])
        self._world.set_state(upright(poses, heights), np.zeros((self._count, 6)))
        self._read()

    def facts(self) -> dict[str, Any]:
        """What an Episode says of its bodies beside their motion."""
        fixed = self._fixed
        return {
            "pieces": fixed["pieces"][: self._count].copy() if self.scene.pieces > 1 or self.layout.traffic else None,
            "kinds": fixed["kind"][: self._count].copy() if self.layout.traffic else None,
            "action_twist": fixed["action_twist"].copy(),
            "unit_m": self.scene.unit_m,
        }

    def _read(self) -> None:
        """The true state of the movers into `bodies`."""
        assert self._world is not None
        poses, twists = self._world.read_dynamic_bodies()
        self._fixed["pose"][: self._count] = poses
        self._fixed["twist"][: self._count] = twists

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        assert self._world is not None, "call reset first"
        self._queue.append(self._spec.clip(action))
        applied = self._queue.popleft()
        self._world.step(applied, self.scene.control_dt_s)
        self.steps += 1
        self._read()
        cost, info = self._judge(applied)
        return self._observe(), -cost, info["success"], self.steps >= self.scene.episode_steps, info

    def _judge(self, action: tuple[float, ...]) -> tuple[float, dict[str, Any]]:
        assert self._world is not None
        task, goal, hits = self.scene.task, self._fixed["goal"], self._world.read_contacts()
        command = self._fixed["action_twist"][PLANAR_TWIST] @ action
        cost = float(task.cost(self.bodies, action, goal, self.field) + task.risk(self.bodies, command, self.field))
        x, y = self.bodies.pose[ROBOT, :2].tolist()
        hall = self.layout.hall
        inside = hall.x < x < hall.x + hall.width and hall.y < y < hall.y + hall.depth
        self._reached = self._reached + 1 if task.success(self.bodies, goal) else 0
        touching, force_n = False, 0.0
        for hit in hits:
            touching |= hit.first == ROBOT and not hit.static
            force_n = max(force_n, hit.force_n if hit.static else 0.0)
        return cost, {
            "cost": cost,
            "success": self._reached > self.scene.hold_steps,
            "violations": {**task.violations(self.bodies, hits, inside), **self._world.read_robot_faults()},
            "static_force_n": force_n,
            "touching": touching,
        }

    def _observe(self) -> Observation:
        observation = {name: values.copy() for name, values in self._fixed.items()}
        noise = self.variation.observation_noise
        if noise > 0:
            count = self._count
            observation["pose"][:count, :2] += self.np_random.normal(0, noise, (count, 2))
            turn = self.np_random.normal(0, noise, count) / 2
            z, w = observation["pose"][:count, 5].copy(), observation["pose"][:count, 6].copy()
            observation["pose"][:count, 5] = z * np.cos(turn) + w * np.sin(turn)
            observation["pose"][:count, 6] = w * np.cos(turn) - z * np.sin(turn)
            observation["twist"][:count] += self.np_random.normal(0, noise, (count, 6))
        if self._lidar:
            observation["lidar"] = lidar(self.bodies, self._lidar, LIDAR_REACH_M).astype(np.float32)
        return self._hidden(observation) if self.layout.traffic else observation

    def _hidden(self, observation: Observation) -> Observation:
        """Without the traffic that the robot cannot see."""
        others = np.arange(1 + len(self.layout.loads), self._count)
        unseen = others[~in_sight(self.bodies, self.bodies.pose[others, :2], self.scene.sight_m)]
        for name in ("pose", "twist", "half_extents", "kind", "shape", "present", "pieces"):
            observation[name][unseen] = 0
        observation["pose"][unseen, 6] = 1
        return observation

    def start(self, seed: int) -> EpisodeStart:
        """What a policy is told now that an episode begins."""
        return EpisodeStart(seed, self.layout, self.variation, self.truth)

    def truth(self) -> Truth:
        """The whole state now, with what no observation shows."""
        assert self._world is not None, "call reset first"
        return self._world.read_state()

    def robot_links(self) -> np.ndarray:
        """Poses (V, 7) of what the robot's `visuals` are drawn in, now."""
        assert self._world is not None, "call reset first"
        return self._world.read_link_poses()

    def hits(self) -> list[Hit]:
        """What touches what now."""
        assert self._world is not None, "call reset first"
        return self._world.read_contacts()

    def render(self) -> np.ndarray | None:
        if self.render_mode is None or self._world is None:
            return None
        return self.picture("side", *self._render_size).rgb if self.render_mode == "rgb_array" else None

    def picture(self, camera: str, width: int, height: int) -> Picture:
        """What one of CAMERAS sees now; `body` gives rows of the observation's bodies."""
        assert self._world is not None, "call reset first"
        if camera not in CAMERAS:
            raise UnknownName("camera", camera, CAMERAS)
        if not (0 < width <= MOST_PIXELS and 0 < height <= MOST_PIXELS):
            raise GroundError(f"a picture of {width} × {height}: 1 to {MOST_PIXELS} pixels a side are possible")
        x, y = self.bodies.pose[ROBOT, :2].tolist()
        place = (x, y, float(yaw_of(self.bodies.pose[ROBOT, 3:])))
        height_m = 2 * float(self.bodies.half_extents[ROBOT, 2])
        if self.variation.looks == VARIED and not self._dressed:  # only now: it costs nothing where nobody looks
            rng = np.random.default_rng()
            rng.bit_generator.state = self._dice  # as it was before the episode: what is drawn here changes nothing there
            self._world.apply_appearance(drawn(rng))
            self._dressed = True
        view = CAMERAS[camera](self.layout.hall, place, height_m, self.scene.unit_m)
        picture = self._world.render(view, width, height)
        static = picture.body >= self._count  # loads that are not there have rows in an observation
        return replace(picture, body=np.where(static, picture.body + self.scene.movers - self._count, picture.body))

    def close(self) -> None:
        if self._world is not None:
            self._world.close()
            self._world = None


def _empty_observation(scene: Scene) -> Observation:
    n = scene.movers + scene.max_static
    pose = np.zeros((n, 7), np.float32)
    pose[:, 6] = 1
    return {
        "pose": pose,
        "twist": np.zeros((n, 6), np.float32),
        "half_extents": np.zeros((n, 3), np.float32),
        "kind": np.zeros(n, np.int8),
        "shape": np.zeros(n, np.int8),
        "present": np.zeros(n, np.int8),
        "goal": np.zeros(3, np.float32),
        "action_twist": np.zeros((6, scene.action_spec.size), np.float32),
        "pieces": np.zeros((n, scene.pieces, 4), np.float32),
        "unit_m": np.array([scene.unit_m], np.float32),
    }


def register_all() -> None:
    """Give every scene its Gymnasium id."""
    for name in scenes:
        if scenes[name].gym_id not in gymnasium.registry:
            gymnasium.register(scenes[name].gym_id, entry_point="sim.env:GroundEnv", kwargs={"scene": name})
