# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes a TFDS set of photographs with the features of imagenet2012."""

import io

import numpy as np
from PIL import Image
from sklearn import datasets
import tensorflow_datasets as tfds

NAME = 'photographs'
# As in imagenet2012, there are a grey and a CMYK training image.
GREY, CMYK = 3, 7
NUM_TRAIN, NUM_VALIDATION = 40, 10


def _jpeg(number: int, seed: int) -> io.BytesIO:
  """Returns a JPEG of a part of one photograph; the number selects which."""
  rng = np.random.default_rng((number, seed))
  names = ('china.jpg', 'flower.jpg')
  whole = Image.fromarray(datasets.load_sample_image(names[number % 2]))
  width, height = rng.integers(60, 420, 2)
  left, top = (
      rng.integers(0, side - part)
      for side, part in zip(whole.size, (width, height))
  )
  part = whole.crop((left, top, left + width, top + height))
  if seed == 0:
    part = part.convert({GREY: 'L', CMYK: 'CMYK'}.get(number, 'RGB'))
  # A file, as in a real data set: TFDS would encode an array with TensorFlow.
  file = io.BytesIO()
  part.save(file, 'JPEG')
  file.seek(0)
  return file


def write(folder: str) -> None:
  """Prepares the set in a folder where `tfds.builder(NAME)` finds it."""
  # Not registered, so that TFDS has to find it by its name.
  with tfds.core.registered.skip_registration():

    class Photographs(tfds.core.GeneratorBasedBuilder):
      """Parts of two photographs."""

      name = NAME
      VERSION = tfds.core.Version('5.1.0')

      def _info(self):
        features = tfds.features.FeaturesDict({
            'image': tfds.features.Image(encoding_format='jpeg'),
            'label': tfds.features.ClassLabel(num_classes=2),
            'file_name': tfds.features.Text(),
        })
        return tfds.core.DatasetInfo(builder=self, features=features)

      def _split_generators(self, dl_manager):
        del dl_manager
        return {
            'train': self._generate_examples(NUM_TRAIN, 0),
            'validation': self._generate_examples(NUM_VALIDATION, 1),
        }

      def _generate_examples(self, count, seed):
        for number in range(count):
          yield number, {
              'image': _jpeg(number, seed),
              'label': number % 2,
              'file_name': f'{number}.JPEG',
          }

  tfds.disable_progress_bar()
  Photographs(
      data_dir=folder, file_format='array_record'
  ).download_and_prepare()
