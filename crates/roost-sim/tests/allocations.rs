//! What one operation allocates once the shard has seen its load: a gate, so that nobody adds one unseen.

use allocation_counter::measure;
use roost_sim::costs::{Kind, Stage};

/// Kind, and allocations of one operation. What a REGISTER allocates is its plan, the binding's text, and in
/// write-through mode its row and the list of writes.
const ALLOWED: [(Kind, u64); 6] = [
    (Kind::Options, 0),
    (Kind::Challenge, 0),
    (Kind::Refresh, 1),
    (Kind::Durable, 4),
    (Kind::Call, 0),
    (Kind::Garbage, 0),
];

#[test]
fn allocations_per_operation() {
    let mut found = Vec::new();
    for (kind, _) in ALLOWED {
        let mut stage = Stage::new(kind, 50);
        for _ in 0..2_000 {
            stage.once();
        }
        let operations = 1_000;
        // Of the phones' side of a call nothing is counted twice: its buffers are reused too.
        let spent = measure(|| {
            for _ in 0..operations {
                stage.once();
            }
        });
        found.push((kind, spent.count_total.div_ceil(operations)));
    }
    assert_eq!(found, ALLOWED);
}
