# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a server reports about itself: Prometheus metrics and the last minute.

Everything here is called in the event loop only.
"""

from collections import deque
import dataclasses
import time
from typing import Any

import prometheus_client
from prometheus_client import (
  CollectorRegistry,
  Counter,
  Gauge,
  Histogram,
  ProcessCollector,
)

from adaptanet_jax.serving.controller import SIZES, Profile
from adaptanet_jax.serving.items import Answer

# What may become of an image; only the first meets its deadline.
OUTCOMES = ('on_time', 'late', 'expired', 'refused', 'failed', 'cancelled')
# The live page's last minute, in parts of half a second.
PART_SECONDS, _PARTS = 0.5, 120
# Up to the longest timeout: beyond the last one, quantiles are not known.
_SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0),
)


@dataclasses.dataclass
class _Part:
  """Half a second.

  Attributes:
    number: its number since the clock began.
    arrived: number of images that arrived.
    outcomes: numbers of images by outcome.
    subnets: numbers of images answered, by the entry that ran.
    accuracy: sum of the entries' accuracies over these images.
    queue: most images that waited when a batch was done.
  """

  number: int
  arrived: int = 0
  outcomes: dict[str, int] = dataclasses.field(default_factory=dict)
  subnets: dict[str, int] = dataclasses.field(default_factory=dict)
  accuracy: float = 0.0
  queue: int = 0


class Metrics:
  """Counts requests, images and batches.

  Attributes:
    registry: registry of the Prometheus metrics.
  """

  def __init__(self) -> None:
    self._parts: deque[_Part] = deque(maxlen=_PARTS)
    self.registry = CollectorRegistry()
    ProcessCollector(registry=self.registry)

    def make(kind: Any, name: str, about: str, *labels: str, **options: Any):
      return kind(
          f'adaptanet_{name}', about, labels, registry=self.registry, **options
      )

    self._requests = make(
        Counter, 'requests', 'HTTP requests.', 'route', 'status'
    )
    self._images = make(
        Counter, 'images', 'Images by what became of them.', 'outcome'
    )
    self._answered = make(
        Counter, 'answered_images', 'Images answered, by subnet.', 'subnet'
    )
    self._accuracy = make(
        Counter,
        'answered_accuracy',
        'Sum over answered images of their subnets\' measured accuracies.',
    )
    self._latency = make(
        Histogram,
        'latency_seconds',
        'From the arrival of an image\'s request to the answer.',
        buckets=_SECONDS,
    )
    self._batch_seconds = make(
        Histogram, 'batch_seconds', 'What a batch takes.', buckets=_SECONDS
    )
    self._batch_images = make(
        Histogram, 'batch_images', 'Images of a batch.', buckets=SIZES
    )
    self._failures = make(Counter, 'failed_batches', 'Batches that failed.')
    self._queue = make(
        Gauge, 'queued_images', 'Images that wait, or are decoded.'
    )
    self._margin = make(
        Gauge,
        'margin_ratio',
        'How much longer than measured batches take, 95th percentile.',
    )
    self._ready = make(Gauge, 'ready', 'Whether the server is ready, 0 or 1.')
    self._capacity = make(
        Gauge,
        'capacity_images_per_second',
        'Images a second of a subnet, as it was measured.',
        'subnet',
    )
    self._model = make(
        Gauge, 'model_info', 'The model that is served; always 1.',
        'name', 'weights',
    )
    for name in OUTCOMES:
      self._images.labels(name)  # Reported as 0 until one comes.

  def describe(self, name: str, weights: str, profile: Profile) -> None:
    """Sets what is served, and the capacity of each entry of the menu."""
    self._model.clear()
    self._model.labels(name, weights).set(1)
    self._capacity.clear()
    for entry, rate in zip(profile.entries, profile.capacity):
      self._capacity.labels(entry.name).set(rate)

  def request(self, route: str, status: int) -> None:
    """Counts an HTTP request."""
    self._requests.labels(route, status).inc()

  def arrived(self, count: int) -> None:
    """Counts images that arrived."""
    self._part().arrived += count

  def outcome(self, name: str, count: int = 1) -> None:
    """Counts images by what became of them, one of `OUTCOMES`."""
    self._images.labels(name).inc(count)
    outcomes = self._part().outcomes
    outcomes[name] = outcomes.get(name, 0) + count

  def answered(self, answer: Answer, seconds: float, *, late: bool) -> None:
    """Counts an image that was answered."""
    self.outcome('late' if late else 'on_time')
    self._latency.observe(seconds)
    if answer.accuracy is None:  # A part of a subnet ran.
      return
    subnet = answer.entry
    self._answered.labels(subnet).inc()
    self._accuracy.inc(answer.accuracy)
    part = self._part()
    part.subnets[subnet] = part.subnets.get(subnet, 0) + 1
    part.accuracy += answer.accuracy

  def batch(
      self, count: int, seconds: float, failed: bool, *, waiting: int
  ) -> None:
    """Counts a batch, and notes how many images waited when it was done."""
    self._batch_seconds.observe(seconds)
    self._batch_images.observe(count)
    if failed:
      self._failures.inc()
    part = self._part()
    part.queue = max(part.queue, waiting)

  def exposition(
      self, *, waiting: int, margin: float, ready: bool
  ) -> tuple[bytes, str]:
    """Returns the text that Prometheus reads, and its content type."""
    self._queue.set(waiting)
    self._margin.set(margin)
    self._ready.set(ready)
    text = prometheus_client.generate_latest(self.registry)
    return text, prometheus_client.CONTENT_TYPE_LATEST

  def last_minute(self) -> dict[str, Any]:
    """Returns the last minute, for the live page.

    Returns:
      `now`, the number of the current part; `parts` in which something
      happened, oldest first; `outcomes` of images; `attainment`, the share of
      images that were answered in time; and `accuracy`, the mean over images
      that whole subnets answered. The last two are None without such images.
    """
    now = self._number()
    parts = [part for part in self._parts if part.number > now - _PARTS]
    outcomes = {
        name: sum(part.outcomes.get(name, 0) for part in parts)
        for name in OUTCOMES
    }
    ended = sum(outcomes.values()) - outcomes['cancelled']
    answered = sum(sum(part.subnets.values()) for part in parts)
    accuracy = sum(part.accuracy for part in parts)
    return {
        'now': now,
        'part_seconds': PART_SECONDS,
        'parts': [dataclasses.asdict(part) for part in parts],
        'outcomes': outcomes,
        'attainment': outcomes['on_time'] / ended if ended else None,
        'accuracy': accuracy / answered if answered else None,
    }

  def _number(self) -> int:
    return int(time.monotonic() / PART_SECONDS)

  def _part(self) -> _Part:
    number = self._number()
    if not self._parts or self._parts[-1].number != number:
      self._parts.append(_Part(number))
    return self._parts[-1]
