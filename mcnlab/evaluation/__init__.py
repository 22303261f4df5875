"""What a trained model knows: retrieval, clusters, retention, geometry."""
