# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of benchmarks.hlo."""

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adaptanet_jax.evaluation.cost import cost_table
from adaptanet_jax.models import supernet
from adaptanet_jax.models.convolution import conv2d
from adaptanet_jax.models.resnet import ResNet
from benchmarks import hlo

_CYCLES = 'backend_config={"window_config":{"estimated_cycles":"%d"}}'


def _line(text, path='', cycles=0):
  metadata = f', metadata={{op_name="{path}" stack_frame_id=1}}' if path else ''
  return f'  {text}{metadata}' + (f', {_CYCLES % cycles}' if cycles else '')


# A loop of three passes over a switch of stage 2, then a reduction.
_PROGRAM = '\n'.join((
    'HloModule step, is_scheduled=true',
    '',
    '%fused (p: bf16[8,16], q: bf16[16,4]) -> bf16[8,4] {',
    _line('%p = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)'),
    _line('%q = bf16[16,4]{1,0} parameter(1)'),
    _line(
        'ROOT %dot = bf16[8,4]{1,0} convolution(%p, %q), dim_labels=bf_io->bf'
    ),
    '}',
    '',
    *(
        line
        for number, cycles in enumerate((100, 50, 30, 20))
        for line in (
            f'%branch{number} (x{number}: bf16[8,16]) -> bf16[8,4] {{',
            _line(f'%x{number} = bf16[8,16]{{1,0}} parameter(0)'),
            _line(f'%w{number} = bf16[16,4]{{1,0}} constant({{...}})'),
            _line(
                f'ROOT %f{number} = bf16[8,4]{{1,0}} fusion(%x{number}, '
                f'%w{number}), kind=kOutput, calls=%fused',
                'jit(step)/cond/branch/jvp(stage2)/conv1/dot_general', cycles,
            ),
            '}',
            '',
        )
    ),
    '%body (b: (s32[], bf16[8,16])) -> (s32[], bf16[8,16]) {',
    _line('%b = (s32[]{:T(128)}, bf16[8,16]{1,0}) parameter(0)'),
    _line('%n = s32[]{:T(128)} get-tuple-element(%b), index=0'),
    _line('%x = bf16[8,16]{1,0} get-tuple-element(%b), index=1'),
    _line(
        '%y = bf16[8,4]{1,0} conditional(%n, %x, %x, %x, %x), '
        'branch_computations={%branch0, %branch1, %branch2, %branch3}'
    ),
    _line('%c = bf16[8,16]{0,1} copy(%x)', 'jit(step)/stage2/slice', 7),
    _line('ROOT %t = (s32[], bf16[8,16]{1,0}) tuple(%n, %c)'),
    '}',
    '',
    '%condition (d: (s32[], bf16[8,16])) -> pred[] {',
    _line('%limit = s32[]{:T(128)} constant(3), metadata={op_name="lt"}'),
    _line('%d = (s32[], bf16[8,16]{1,0}) parameter(0)'),
    _line('%i = s32[] get-tuple-element(%d), index=0'),
    _line('ROOT %lt = pred[] compare(%i, %limit), direction=LT'),
    '}',
    '',
    'ENTRY %main (start: (s32[], bf16[8,16])) -> f32[10,2] {',
    _line('%start = (s32[], bf16[8,16]{1,0}) parameter(0)'),
    _line(
        '%loop = (s32[], bf16[8,16]{1,0}) while(%start), '
        'condition=%condition, body=%body'
    ),
    _line('%g = f32[10,2]{1,0} constant({...})'),
    _line(
        '%s = f32[10,2]{1,0} negate(%g)', 'jit(step)/norm/jit(group_norm)/neg',
        11,
    ),
    _line('%k = f32[10,2]{1,0} add(%g, %g)', 'jit(step)/stage1/kept/add', 5),
    _line('%r = f32[10,2]{1,0} all-reduce(%s), to_apply=%sum'),
    _line('ROOT %u = f32[10,2]{1,0} multiply(%r, %r)', 'jit(step)/mul', 13),
    '}',
))


def _shares(stage):
  return {2: (0.5, 0.25, 0.0, 0.25)}[stage]


class ProgramTest(parameterized.TestCase):

  def test_loops_and_branches_count_as_often_as_they_run(self):
    program = hlo.Program(_PROGRAM, _shares)
    # Three passes of .5 * 100 + .25 * 50 + .25 * 20 = 67.5 and of 7 cycles.
    self.assertEqual(
        program.total.cycles,
        {'convolution': 202.5, 'copy': 21.0, 'norm': 11.0, 'kept': 5.0,
         'rest': 13.0},
    )
    self.assertEqual(program.total.all_cycles, 252.5)
    # Each branch is a product of 8x16 with 16x4.
    self.assertEqual(program.total.flops, 3 * 2 * 8 * 16 * 4)
    self.assertEqual(
        program.total.collectives, {'all-reduce': {'calls': 1, 'bytes': 80}}
    )

  def test_a_loop_says_itself_how_often_it_runs(self):
    known = 'backend_config={"known_trip_count":{"n":"5"}}'
    text = _PROGRAM.replace('body=%body', f'body=%body, {known}')
    program = hlo.Program(text, _shares)
    self.assertEqual(program.total.flops, 5 * 2 * 8 * 16 * 4)

  def test_the_limit_of_a_loop_may_be_in_a_fusion(self):
    limit = '%limit = s32[]{:T(128)} constant(3)'
    fused = (
        f'%fused (p: s32[]) -> pred[] {{\n{_line(limit)}\n'
        + _line('%p = s32[] parameter(0)')
        + '\n'
        + _line('ROOT %less = pred[] compare(%p, %limit), direction=LT')
        + '\n}\n\n'
    )
    text = _PROGRAM.replace(
        _line(f'{limit}, metadata={{op_name="lt"}}') + '\n', ''
    )
    text = text.replace(
        'compare(%i, %limit), direction=LT',
        'fusion(%i), kind=kLoop, calls=%fused',
    )
    text = text.replace('%condition (d:', f'{fused}%condition (d:')
    program = hlo.Program(text, _shares)
    self.assertEqual(program.total.flops, 3 * 2 * 8 * 16 * 4)

  def test_a_stage_has_its_choices_apart(self):
    (switch,) = hlo.Program(_PROGRAM, _shares).switches
    self.assertEqual((switch.stage, switch.backward), (2, False))
    self.assertEqual(
        [branch.all_cycles for branch in switch.branches], [100, 50, 30, 20]
    )

  def test_a_gradient_is_told_by_its_path(self):
    text = _PROGRAM.replace('jvp(stage2)', 'transpose(jvp(stage2))')
    self.assertTrue(hlo.Program(text, _shares).switches[0].backward)

  def test_what_is_no_program_raises(self):
    with self.assertRaisesRegex(ValueError, "HLO module, got 'nothing'"):
      hlo.Program('nothing', _shares)

  def test_a_loop_without_a_limit_raises(self):
    text = _PROGRAM.replace('constant(3)', 'parameter(3)')
    with self.assertRaisesRegex(ValueError, r'one limit .* %?condition'):
      hlo.Program(text, _shares)

  @parameterized.parameters((8, 3, 1), (9, 3, 2), (16, 7, 2))
  def test_counts_a_convolution_as_xla_does(self, side, size, strides):
    x = jnp.zeros((2, side, side, 3), jnp.float32)
    kernel = jnp.zeros((size, size, 3, 5), jnp.float32)
    run = jax.jit(lambda x, kernel: conv2d(x, kernel, strides))
    compiled = run.lower(x, kernel).compile()
    flops = hlo.Program(compiled.as_text(), _shares).total.flops
    self.assertEqual(flops, compiled.cost_analysis()['flops'])

  @parameterized.parameters(
      ('convForward', 'bf16[2,4,4,5]', ('bf16[2,8,8,3]', 'bf16[5,3,3,3]')),
      ('convBackwardInput', 'bf16[2,8,8,3]', ('bf16[2,4,4,5]',
                                              'bf16[5,3,3,3]')),
      ('convBackwardFilter', 'bf16[5,3,3,3]', ('bf16[2,8,8,3]',
                                               'bf16[2,4,4,5]')),
  )
  def test_counts_a_gradient_of_cudnn_as_its_convolution(
      self, target, result, operands
  ):
    lines = [
        f'  %p{n} = {shape} parameter({n})' for n, shape in enumerate(operands)
    ]
    text = '\n'.join((
        'ENTRY %main (p: bf16[1]) -> bf16[1] {',
        *lines,
        f'  ROOT %c = ({result}, u8[0]{{0}}) custom-call(%p0, %p1), '
        'window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, '
        f'custom_call_target="__cudnn${target}"',
        '}',
    ))
    # Each axis has 4 outputs of 3 taps, except that the first output's first
    # tap is padding: 11 pairs. 2 * 11 * 11 * (2 images, 3 to 5 channels).
    self.assertEqual(
        hlo.Program(text, _shares).total.flops, 2 * 11 * 11 * 2 * 3 * 5
    )

  def test_finds_the_switch_of_a_stage_and_of_its_gradient(self):
    net = ResNet('resnet26x8', 'cifar', 'gn', 10, (8, 8, 3))
    variables = supernet.stage_variables(net, net.shapes(), 2)
    x = jax.ShapeDtypeStruct((2, *net.anchor_shapes[0]), jnp.float32)

    def run(variables, x, choice):
      def loss(variables, x):
        y, _ = supernet.switch_stage(net, variables, x, 2, choice)
        return jnp.square(y).sum()

      return jax.grad(loss, (0, 1))(variables, x)

    choice = jax.ShapeDtypeStruct((), jnp.int32)
    compiled = jax.jit(run).lower(variables, x, choice).compile()
    program = hlo.Program(compiled.as_text(), lambda stage: [0.25] * 4)
    self.assertEqual(
        [(each.stage, each.backward) for each in program.switches],
        [(2, False), (2, True)],
    )
    madds = cost_table(net).stage_madds()[1]
    for switch, share in zip(program.switches, (1, 2)):
      # Two images. The tolerance is for borders and strides, which XLA counts
      # differently.
      flops = np.array([branch.flops for branch in switch.branches])
      np.testing.assert_allclose(flops, 2 * 2 * share * madds, rtol=0.3)
      self.assertTrue(np.all(np.diff(flops) < 0))

  def test_counts_bytes_of_tuples(self):
    shape = '(f32[4,2]{1,0:T(8,128)}, /*index=1*/bf16[3]{0:T(1024)(128)(2,1)})'
    self.assertEqual(
        hlo.arrays_of(shape), [('f32', (4, 2)), ('bf16', (3,))]
    )
    self.assertEqual(hlo.bytes_of(shape), 4 * 8 + 2 * 3)
    self.assertEqual(np.prod(hlo.arrays_of('s32[]')[0][1]), 1)


if __name__ == '__main__':
  absltest.main()
