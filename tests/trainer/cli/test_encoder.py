"""`encoder add` checks the output that was chosen, not the first one of the model."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.trainer.data.encoders.test_standard_form import SCALING, description, tower
from trainer.cli.encoder import check_same_features
from trainer.data.encoders.sources import EncoderSource
from trainer.data.encoders.standard_form import standard_form


def test_the_chosen_output_is_compared_where_a_model_has_several() -> None:
    model = tower(outputs=("logits", "features"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(2), "two"))
    model.graph.node[-2].output[0] = "half"
    model.graph.node.append(helper.make_node("Add", ["half", "two"], ["logits"]))
    source = EncoderSource(model, SCALING, description())
    data = standard_form(model, SCALING, description(), output="features", half=False)
    check_same_features(source, data, "features")
    with pytest.raises(ValueError, match="does not give the features"):
        check_same_features(source, data, "logits")
