"""What a step reads and writes: sources in, Parquet shards and manifests out."""
