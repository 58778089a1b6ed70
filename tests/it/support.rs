//! What several of these tests need: an application in this process, and registries in memory.
