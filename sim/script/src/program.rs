//! A script at work: it is run for every packet, and what it keeps is kept by flow.

use std::sync::{Arc, Mutex, PoisonError};

use phantom_censor::engine::program::{Answer, Faults, Program, Seen};
use rhai::{AST, Dynamic, Engine, Scope};

use crate::answer;
use crate::fault::{short, told};
use crate::keep::Kept;
use crate::machine::{self, Lines, machine};
use crate::model::Asker;
use crate::view::{Facts, FlowView, PacketView};

/// A script in one engine of a censor.
pub(crate) struct Running {
    file: String,
    engine: Engine,
    ast: AST,
    scope: Scope<'static>,
    /// The memory of the packet before, to be used again.
    facts: Option<Arc<Facts>>,
    kept: Kept,
    faults: Faults,
    lines: Lines,
    model: Option<Arc<dyn Asker>>,
}

impl Running {
    pub(crate) fn new(file: &str, ast: AST, model: Option<&Arc<dyn Asker>>) -> Self {
        let lines: Lines = Arc::new(Mutex::new(Vec::new()));
        // Each has its own, and its own count of questions.
        let model = model.map(|model| model.fresh());
        Self {
            file: file.to_owned(),
            engine: machine(&lines, model.as_ref()),
            ast,
            scope: Scope::new(),
            facts: None,
            kept: Kept::default(),
            faults: Faults::default(),
            lines,
            model,
        }
    }

    /// The packet for the script.
    fn facts(&mut self, seen: &Seen<'_>) -> Arc<Facts> {
        let mut facts = match self.facts.take() {
            Some(facts) => facts,
            None => return Arc::new(Facts::of(seen)),
        };
        match Arc::get_mut(&mut facts) {
            Some(own) => own.fill(seen),
            None => facts = Arc::new(Facts::of(seen)),
        }
        facts
    }

    fn run(&mut self, seen: &Seen<'_>) -> Result<Answer, String> {
        let facts = self.facts(seen);
        let state = self.kept.take(seen.flow.number);
        let views = (PacketView(Arc::clone(&facts)), FlowView(Arc::clone(&facts)));
        machine::fill(&mut self.scope, views.0, views.1, state);
        if let Some(model) = &self.model {
            model.begin();
        }
        let ended = self
            .engine
            .eval_ast_with_scope::<Dynamic>(&mut self.scope, &self.ast);
        let state = machine::state(&mut self.scope);
        self.scope.clear();
        let kept = self.kept.put(seen.flow.number, state);
        let said = match ended {
            Ok(value) => answer::read(value),
            Err(error) => return Err(told(&self.file, &error)),
        };
        self.facts = Some(facts);
        let in_file = |what: String| format!("{}: {}", self.file, short(&what));
        kept.map_err(in_file)?;
        said.map_err(in_file)
    }
}

impl Program for Running {
    fn judge(&mut self, seen: &Seen<'_>) -> Answer {
        match self.run(seen) {
            Ok(answer) => answer,
            Err(what) => {
                self.faults.packets += 1;
                self.faults.first.get_or_insert(what);
                Answer::Pass
            }
        }
    }

    fn forget(&mut self, flow: u64) {
        self.kept.take(flow);
    }

    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn said(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
