"""The messages of the Open Inference Protocol (V2), which Triton and KServe speak: read, checked and written."""
