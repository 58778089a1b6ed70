//! What a crash left is finished before anything new is rendered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::journal::Intent;
use super::place::Move;
use super::stage::sweep;

/// Finishes the files of `intents`: those of one template or group are all brought to their
/// places, or, when a staged one is lost, all back. Files that no template makes any more are left
/// as they are. Then what is left staged in the directories of `destinations` is removed. Blocks.
///
/// What `rolls_back`, by its name, keeps its old files until their readers were told.
pub(super) fn finish<'a>(
    intents: impl Iterator<Item = &'a Intent>,
    destinations: &[PathBuf],
    rolls_back: &BTreeSet<String>,
) {
    // Symbolic links were followed when the files were staged.
    let real = |path: &PathBuf| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let made: BTreeSet<PathBuf> = destinations.iter().map(real).collect();
    let mut kept: Vec<&Path> = Vec::new();
    for intent in intents {
        if intent.moves.is_empty() {
            continue;
        }
        if intent.moves.iter().any(|step| made.contains(&step.destination)) {
            finish_one(intent);
            if !rolls_back.contains(&intent.name) {
                intent.moves.iter().for_each(Move::forget);
            }
            kept.extend(intent.moves.iter().filter_map(|step| step.kept.as_deref()));
        } else {
            intent.moves.iter().for_each(Move::drop_it);
        }
    }
    let directories: BTreeSet<&Path> = made.iter().filter_map(|path| path.parent()).collect();
    for directory in directories {
        sweep(directory, &kept);
    }
}

fn finish_one(intent: &Intent) {
    let missing: Vec<&Move> = intent.moves.iter().filter(|step| !step.is_done()).collect();
    let result = if missing.iter().all(|step| step.can_be_done()) {
        missing.iter().try_for_each(|step| step.place().map(drop))
    } else {
        intent.moves.iter().try_for_each(Move::undo)
    };
    match result {
        Err(error) => {
            let (of, error) = (&*intent.name, error.to_string());
            tracing::error!(of, error, "what a crash left unfinished cannot be finished");
        }
        Ok(()) if !missing.is_empty() => {
            tracing::info!(of = &*intent.name, "what a crash left unfinished is finished");
        }
        Ok(()) => {}
    }
}
