"""The training core: packed token shards in, a hybrid Mamba-2 / attention / LatentMoE model out."""
