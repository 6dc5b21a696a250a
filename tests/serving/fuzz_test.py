# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests that requests made up by schemathesis never cause a server error.

The schema is the part of the Open Inference Protocol that is served, with the
paths that MLServer uses.
"""

from absl.testing import absltest
import hypothesis
import schemathesis

from adaptanet_jax.errors import UsageError
from tests.serving import fakes

_ANY = {}
_PARAMETERS = {
    'type': 'object',
    'properties': {
        'timeout': {'type': 'integer', 'minimum': 1, 'maximum': 60_000_000},
        'subnet': {'enum': ['narrow', 'wide', 'x']},
        'min_accuracy': {'type': 'number', 'minimum': 0, 'maximum': 1},
        'policy': {'type': 'string'},
        'binary_data_output': {'type': 'boolean'},
    },
    'additionalProperties': False,
}
_TENSOR = {
    'type': 'object',
    'required': ['name', 'shape', 'datatype', 'data'],
    'properties': {
        'name': {'const': 'images'},
        'shape': {'enum': [[1, 4, 4, 1], [2, 4, 4, 1], [1], [0], []]},
        'datatype': {'enum': ['UINT8', 'BYTES', 'FP32']},
        'data': {'anyOf': [
            {
                'type': 'array', 'minItems': 16, 'maxItems': 16,
                'items': {'type': 'integer', 'minimum': 0, 'maximum': 255},
            },
            {'type': 'array', 'items': _ANY},
        ]},
        'parameters': {'type': 'object'},
    },
}
_INFER = {
    'type': 'object',
    'required': ['inputs'],
    'properties': {
        'id': {'type': 'string'},
        'parameters': _PARAMETERS,
        'inputs': {'type': 'array', 'items': _TENSOR, 'maxItems': 2},
        'outputs': {'type': 'array', 'items': {
            'type': 'object',
            'properties': {
                'name': {'enum': ['label', 'logits', 'x']},
                'parameters': {'type': 'object'},
            },
        }},
    },
}


def _operation(content_type, schema):
  return {'post': {
      'requestBody': {
          'required': True, 'content': {content_type: {'schema': schema}}
      },
      'responses': {'default': {'description': 'Any.'}},
  }}


_SCHEMA = {
    'openapi': '3.1.0',
    'info': {'title': 'Open Inference Protocol', 'version': '2'},
    'paths': {
        '/v2/models/fake/infer': _operation('application/json', _INFER),
        '/v2/models/fake/versions/1/infer': _operation(
            'application/json', _ANY
        ),
        '/v2/repository/models/fake/load': _operation('application/json', _ANY),
        '/classify': _operation(
            'application/octet-stream', {'type': 'string', 'format': 'binary'}
        ),
    },
}


class FuzzTest(absltest.TestCase):

  def test_no_request_makes_the_server_fail(self):

    def load(model):
      raise UsageError(f'There is no {model}.')

    running = self.enter_context(fakes.Running(token=fakes.TOKEN, loader=load))
    headers = {'Authorization': f'Bearer {fakes.TOKEN}'}
    statuses = set()
    schema = schemathesis.openapi.from_dict(_SCHEMA)
    for path in _SCHEMA['paths']:
      operation = schema[path]['POST']

      @hypothesis.given(case=operation.as_strategy())
      @hypothesis.settings(
          max_examples=60, deadline=None, derandomize=True,
          suppress_health_check=list(hypothesis.HealthCheck),
      )
      def ask(case):
        response = case.call(
            base_url=f'http://127.0.0.1:{running.port}', headers=headers
        )
        statuses.add(response.status_code)
        self.assertLess(response.status_code, 500, response.text)
        if response.status_code != 200:
          self.assertEqual(list(response.json()), ['error'])

      ask()
    # One of 409 is a model that cannot be loaded.
    self.assertContainsSubset({200, 400, 409}, statuses)
    self.assertTrue(running.service.is_ready)


if __name__ == '__main__':
  absltest.main()
