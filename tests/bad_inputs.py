# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Bad inputs of all kinds, each with a part of the one line that refuses it.

The test is in `bad_input_test.py`. This command prints all of them with their
lines, as a table in Markdown:

  python -m tests.bad_inputs
"""

import io
import pathlib
import pickle
import shutil
import tempfile

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from adaptanet_jax import experiment
from adaptanet_jax.errors import UsageError
from adaptanet_jax.models.resnet import ResNet
from tests import testing
from tests.teachers import originals

_BASE = (*testing.TINY, '--config.phases=teacher')
_FOLDER = (
    '--config.data.name=folder',
    '--noconfig.data.fake_if_missing',
    '--config.data.train_examples=0',
)
_TFDS = ('--noconfig.data.fake_if_missing', '--config.data.dir={files}')

# By title: flags, and a part of the line. {files} is the folder of `write`.
CASES = {
    # Settings.
    'no such choice': (('model.norm=batch',), "'batch'; expected one of gn"),
    'negative number': (('data.image_size=-1',), '-1; expected a number'),
    'no number': (('teacher.momentum=nan',), 'nan; expected a number'),
    'infinite rate': (('teacher.learning_rate=inf',), 'inf; expected a number'),
    'no epochs': (('teacher.epochs=0.',), '0.0; expected more than 0'),
    'endless epochs': (('teacher.epochs=1e300',), 'at most 1,000,000'),
    'three epochs for four modules': (
        ('cascade.epochs=(1.,1.,1.)',), 'expected 4 numbers',
    ),
    'a letter among epochs': (
        ("cascade.epochs=('a',1,1,1)",), "('a', 1, 1, 1); expected 4 numbers",
    ),
    'anchors that are no integers': (
        ('gates.anchors=(1.,2.,3.)',), '(1.0, 2.0, 3.0); expected some of 1, 2',
    ),
    'anchors that are reversed': (
        ('gates.anchors=(3,2,1)',), '(3, 2, 1); expected some of',
    ),
    'unknown phase': (('phases=teach',), "Unknown phase 'teach'"),
    'phase without its teacher': (
        ('phases=lock_in',), "Phase 'lock_in' needs 'teacher'",
    ),
    'batch of none': (
        ('gates.batch_size=0',), 'size = 0; expected a number of at least 1',
    ),
    'batch larger than the data': (
        ('teacher.batch_size=128',),
        'config.teacher.batch_size = 128 is larger than the 64 training',
    ),
    'none held out of few': (
        ('phases=all', 'data.held_out=0.001'), 'holds out none of 80 examples',
    ),
    'warm-up longer than training': (
        ('teacher.warmup_epochs=9.',), 'less than the 2.0 epochs',
    ),
    'sides that do not fit': (
        ('data.shorter_side=8',), '8; expected 0 or at least',
    ),
    'random parts of digits': (
        ('data.augment=resized_crop',), 'expected none, crop or crop_flip',
    ),
    'reuse of nothing': (('reuse={files}/no',), 'has no config.json'),
    'comparison with nothing': (('compare={files}/no',), '/no'),
    # Sets of TFDS.
    **{
        f'set {name!r}': (
            (*_TFDS, f'data.name={name}'), f'Unknown data set {name!r} (',
        )
        for name in (
            '/data/pictures', 'cifar-100', 'cifr100', 'cifar100:9.9.9',
            'cifar100/coarse', 'CIFAR100', 'http://host/set',
        )
    },
    'set that is not there': (
        (*_TFDS, 'data.name=cifar10'), "'cifar10' is not prepared under",
    ),
    # Folders.
    'no folder': ((*_FOLDER, 'data.dir='), "'' is not a folder"),
    'folder that is not there': (
        (*_FOLDER, 'data.dir=/no/such'), "'/no/such' is not a folder",
    ),
    'file for a folder': (
        (*_FOLDER, 'data.dir={files}/page.pth'), 'page.pth\' is not a folder',
    ),
    'folder without classes': (
        (*_FOLDER, 'data.dir={files}/empty'), 'has no folders of classes',
    ),
    'training without testing': (
        (*_FOLDER, 'data.dir={files}/alone'), 'to train on of train; expected',
    ),
    'class without pictures': (
        (*_FOLDER, 'data.dir={files}/hollow'), 'to train on of b; expected',
    ),
    'classes that only the test has': (
        (*_FOLDER, 'data.dir={files}/other'), 'lacks: c; expected',
    ),
    'pictures of any size': (
        (*_FOLDER, 'data.dir={files}/good', 'data.image_size=0'),
        'config.data.image_size = 0 does not suit a folder',
    ),
    **{
        title: ((*_FOLDER, f'data.dir={{files}}/{name}'), text)
        for title, name, text in (
            ('cut-off JPEG', 'cut', 'bad.jpg, number 1 of its split, cannot'),
            ('page named .jpg', 'page', "starts with b'<!DOCTYPE html>"),
            ('pointer of Git LFS', 'pointer', "starts with b'version https"),
            ('empty file', 'nothing', 'cannot be used: it is empty'),
            ('floats as pixels', 'floats', 'of Pillow mode F'),
            ('numbers of 32 bits', 'wide', 'numbers from 0 to 70000'),
        )
    },
    # Weights.
    **{
        title: ((f'teacher.weights={{files}}/{name}',), text)
        for title, name, text in (
            ('weights that are not there', 'no.pth', 'no.pth\' is not a file'),
            ('folder for weights', 'empty', 'empty\' is not a file'),
            ('page for weights', 'page.pth', "starts with b'<!DOCTYPE html>"),
            ('empty weights', 'none.pth', 'cannot be read (it is empty)'),
            ('cut-off weights', 'cut.pth', 'cut.pth\' cannot be read'),
            ('pickle of something else', 'list.pth', 'not one of PyTorch'),
            ('whole network', 'module.pth', 'holds a Linear and no tensors'),
            ('other network', 'other.safetensors', 'it lacks bn1.bias'),
        )
    },
    'weights of other classes, untrained': (
        (
            'teacher.weights={files}/classes.safetensors', 'teacher.norm=bn',
            'teacher.epochs=0.',
        ),
        'fc.bias (7,) against (10,)',
    ),
    'weights with a number that is none': (
        ('teacher.weights={files}/nan.safetensors', 'teacher.norm=bn'),
        'layer1.0.conv1.weight in config.teacher.weights = ',
    ),
}


def flags(title: str, files: pathlib.Path) -> list[str]:
  """Returns all flags of a case; `a=b` in it means `--config.a=b`."""
  given = [
      flag if flag[0] == '-' else f'--config.{flag}'
      for flag in CASES[title][0]
  ]
  keys = {flag.split('=')[0] for flag in given}
  # ml_collections would join the values of a tuple that is given twice.
  base = [flag for flag in _BASE if flag.split('=')[0] not in keys]
  return [*base, *(flag.format(files=files) for flag in given)]


def write(files: pathlib.Path) -> None:
  """Writes the files that the cases name."""
  picture = Image.fromarray(np.full((20, 20, 3), 90, np.uint8))
  for folder in ('good', 'cut', 'page', 'pointer', 'nothing', 'floats', 'wide'):
    for split, name in (('train', 'a'), ('train', 'b'), ('test', 'a')):
      path = files / folder / split / name
      path.mkdir(parents=True)
      picture.save(path / 'x.png')
  encoded = io.BytesIO()
  picture.save(encoded, 'JPEG')
  page = b'<!DOCTYPE html><html>404</html>'
  floats, wide = io.BytesIO(), io.BytesIO()
  Image.fromarray(np.ones((20, 20), np.float32)).save(floats, 'TIFF')
  numbers = np.zeros((20, 20), np.int32)
  numbers[0, 0] = 70000
  Image.fromarray(numbers).save(wide, 'TIFF')
  for folder, data in (
      ('cut', encoded.getvalue()[:-100]),
      ('page', page),
      ('pointer', b'version https://git-lfs.github.com/spec/v1'),
      ('nothing', b''),
      ('floats', floats.getvalue()),
      ('wide', wide.getvalue()),
  ):
    (files / folder / 'train' / 'a' / 'x.png').rename(
        files / folder / 'train' / 'a' / 'bad.jpg'
    )
    (files / folder / 'train' / 'a' / 'bad.jpg').write_bytes(data)
  (files / 'empty').mkdir()
  shutil.copytree(files / 'good' / 'train', files / 'alone' / 'train')
  shutil.copytree(files / 'good' / 'train', files / 'hollow')
  (files / 'hollow' / 'b' / 'x.png').rename(files / 'hollow' / 'b' / 'x.txt')
  shutil.copytree(files / 'good', files / 'other')
  (files / 'other' / 'test' / 'a').rename(files / 'other' / 'test' / 'c')

  (files / 'page.pth').write_bytes(page)
  (files / 'none.pth').write_bytes(b'')
  (files / 'list.pth').write_bytes(pickle.dumps([1]))
  saved = (originals.SAVED / 'zip.pth').read_bytes()
  (files / 'cut.pth').write_bytes(saved[:-100])
  shutil.copy(originals.SAVED / 'module.pth', files)
  save_file({'a.weight': np.ones(2, np.float32)}, files / 'other.safetensors')
  state = originals.state_of(
      ResNet('resnet26x8', 'cifar', 'bn', 10, (16, 16, 1))
  )
  save_file(state | {'fc.bias': np.ones(7, np.float32)},
            files / 'classes.safetensors')
  state['layer1.0.conv1.weight'].flat[0] = np.nan
  save_file(state, files / 'nan.safetensors')


def refuse(title: str, files: pathlib.Path) -> str:
  """Returns the line that refuses a case; raises if nothing does."""
  workdir = files / 'workdir'
  try:
    experiment.run(testing.config(*flags(title, files)), str(workdir))
  except UsageError as error:
    if workdir.exists():
      raise ValueError(f'{title!r} has left {workdir}.') from error
    return str(error)
  raise ValueError(f'{title!r} was let through.')


def main() -> None:
  """Prints the table."""
  print('| | refused with |\n|---|---|')
  with tempfile.TemporaryDirectory() as folder:
    files = pathlib.Path(folder)
    write(files)
    for title in CASES:
      line = refuse(title, files).replace(folder, 'DIR').replace('|', '\\|')
      print(f'| {title} | {line} |')


if __name__ == '__main__':
  main()
