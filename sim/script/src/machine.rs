//! The language as scripts have it: Rhai without what reaches outside, and with every bound set.

use std::sync::{Arc, Mutex, Once, PoisonError};

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicBlobPackage, BasicIteratorPackage, BasicMapPackage,
    BasicMathPackage, BasicStringPackage, BitFieldPackage, LogicPackage, MoreStringPackage, Package as _,
};
use rhai::{AST, Dynamic, Engine, Map, OptimizationLevel, Scope};

use crate::answer;
use crate::bounds::{
    ARRAY_MAX, CALLS_MAX, DEPTH_MAX, FUNCTIONS_MAX, LINES_MAX, MAP_MAX, STEPS_MAX, TEXT_BYTES_MAX,
    VARIABLES_MAX,
};
use crate::fault::short;
use crate::model::Asker;
use crate::view::{self, FlowView, PacketView};

/// What a script prints: the first lines.
pub(crate) type Lines = Arc<Mutex<Vec<String>>>;

/// Rhai looks functions up by a hash whose seed is otherwise drawn when it is built. Nothing that a script can see hangs on
/// it, and the same program is the same this way.
const HASHING_SEED: [u64; 4] = [1, 2, 3, 4];

/// Words of Rhai that scripts do not have: `eval` is a program of no bound that was checked, `print` to where nobody looks.
const WITHOUT: [&str; 2] = ["eval", "debug"];

/// An engine whose scripts print to `lines` and ask `model`.
pub(crate) fn machine(lines: &Lines, model: Option<&Arc<dyn Asker>>) -> Engine {
    static SEEDED: Once = Once::new();
    // Another part of the program may have been first: then its seed is as good.
    SEEDED.call_once(|| _ = rhai::config::hashing::set_hashing_seed(Some(HASHING_SEED)));
    let mut engine = Engine::new_raw();
    // The standard packages but those for time, for sleeping and leaving, and for what hides in pointers.
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BitFieldPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicBlobPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    for word in WITHOUT {
        engine.disable_symbol(word);
    }
    engine
        .set_optimization_level(OptimizationLevel::None)
        .set_strict_variables(true)
        .set_max_operations(STEPS_MAX)
        .set_max_call_levels(CALLS_MAX)
        .set_max_expr_depths(DEPTH_MAX, DEPTH_MAX)
        .set_max_functions(FUNCTIONS_MAX)
        .set_max_variables(VARIABLES_MAX)
        .set_max_string_size(TEXT_BYTES_MAX)
        .set_max_array_size(ARRAY_MAX)
        .set_max_map_size(MAP_MAX)
        .set_max_strings_interned(0);
    view::register(&mut engine);
    answer::register(&mut engine);
    if let Some(model) = model {
        model.register(&mut engine);
    }
    let lines = Arc::clone(lines);
    engine.on_print(move |line| {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < LINES_MAX {
            lines.push(short(line));
        }
    });
    engine
}

/// The variables of a script, for one packet.
pub(crate) fn fill(scope: &mut Scope<'_>, packet: PacketView, flow: FlowView, state: Map) {
    scope.clear();
    scope.push(NAMES[0], packet);
    scope.push(NAMES[1], flow);
    scope.push(NAMES[2], state);
}

/// What is kept of the flow after a script ran. What it declared itself is gone.
pub(crate) fn state(scope: &mut Scope<'_>) -> Dynamic {
    scope.rewind(NAMES.len());
    scope.get_mut(NAMES[2]).map_or(Dynamic::UNIT, Dynamic::take)
}

/// The names of those variables.
pub(crate) const NAMES: [&str; 3] = ["packet", "flow", "state"];

/// A script, read by an engine that knows the three variables and nothing of their values; as it is written.
pub(crate) fn compile(engine: &Engine, text: &str) -> Result<AST, rhai::ParseError> {
    engine.compile_with_scope(&unknown(), text)
}

/// The same without what can be worked out beforehand.
pub(crate) fn optimised(engine: &Engine, ast: AST) -> AST {
    engine.optimize_ast(&unknown(), ast, OptimizationLevel::Simple)
}

fn unknown() -> Scope<'static> {
    let mut scope = Scope::new();
    for name in NAMES {
        scope.push_dynamic(name, Dynamic::UNIT);
    }
    scope
}
