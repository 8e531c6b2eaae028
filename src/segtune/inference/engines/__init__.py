"""Engines that compute a model's logits: eager PyTorch, ONNX Runtime, OpenVINO."""
