//! Models in ONNX, run by tract.
//!
//! tract 0.23 of 2026 (MIT or Apache-2.0) is pure Rust but for its kernels. It picks those by the processor, so the last bits
//! of a score differ between machines; scores are rounded to thousandths, which hides that but for those that fall on an
//! edge. Hence a censor with a model is exempt from "the same on any machine".
//!
//! A model may be a stranger's. So it is read from memory alone (tensors in other files are refused), has operators of a short
//! list with sizes known beforehand, and each operator works on what was asked: one on constants alone would run when the
//! model is read, before sizes are checked.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rhai::{Array, Dynamic, Engine, EvalAltResult};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use tract_onnx::pb::{tensor_shape_proto::dimension::Value as Dim, type_proto::Value as Kind};
use tract_onnx::prelude::{
    Framework as _, InferenceModelExt as _, IntoRunnable as _, Tensor, TypedModel, TypedRunnableModel, tvec,
};

use super::Asker;
use crate::bounds::{ASKS_MAX, INPUTS_MAX, OPERATORS_MAX, OUTPUTS_MAX, WIDTH_MAX};
use crate::fault::{failure, short};

/// Operators that a model may have.
const OPERATORS: [&str; 14] = [
    "Add",
    "Div",
    "Flatten",
    "Gemm",
    "Identity",
    "LeakyRelu",
    "MatMul",
    "Mul",
    "Neg",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Sub",
    "Tanh",
];
/// 32-bit floats in ONNX's list of types (`TensorProto.DataType`).
const FLOAT: i32 = 1;

/// A model and how many questions it was asked at this packet.
struct Onnx {
    plan: Arc<TypedRunnableModel>,
    shape: Vec<usize>,
    asked: Arc<AtomicU32>,
}

/// Reads a model.
///
/// # Errors
/// In words, what about it is not good.
pub(super) fn read(bytes: &[u8]) -> Result<Arc<dyn Asker>, String> {
    // tract checks much, and panics at some of what it does not.
    let read = catch_unwind(AssertUnwindSafe(|| checked(bytes)));
    let model = read.unwrap_or_else(|_| Err("it contradicts itself, and the reader gave up".to_owned()))?;
    Ok(Arc::new(model))
}

fn checked(bytes: &[u8]) -> Result<Onnx, String> {
    let tract = |error: tract_onnx::prelude::TractError| short(&format!("{error:#}"));
    let onnx = tract_onnx::onnx();
    let mut input = bytes;
    let proto: ModelProto = onnx
        .proto_model_for_read(&mut input)
        .map_err(|error| format!("it is not in ONNX: {}", tract(error)))?;
    let graph = proto.graph.as_ref().ok_or("it is not in ONNX: it has no graph")?;
    let shape = shape(graph)?;
    operators(graph)?;
    let model: TypedModel = onnx
        .model_for_proto_model(&proto)
        .and_then(|model| model.into_typed())
        .map_err(tract)?;
    widths(&model)?;
    let plan = model
        .into_decluttered()
        .and_then(|model| model.into_runnable())
        .map_err(tract)?;
    let model = Onnx {
        plan,
        shape,
        asked: Arc::default(),
    };
    // One question tells that it can be asked, and how much it answers.
    let answers = model.run(&vec![0.0; model.inputs()])?;
    match answers.len() {
        1..=OUTPUTS_MAX => Ok(model),
        other => Err(format!("it gives {other} numbers; wanted 1 to {OUTPUTS_MAX}")),
    }
}

/// The shape of the one input.
fn shape(graph: &GraphProto) -> Result<Vec<usize>, String> {
    let given: BTreeSet<&str> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    let mut inputs = graph
        .input
        .iter()
        .filter(|input| !given.contains(input.name.as_str()));
    let (Some(input), None) = (inputs.next(), inputs.next()) else {
        return Err("wanted one input".to_owned());
    };
    let wanted = || {
        format!(
            "wanted one input of 32-bit floats in the shape [1, N] or [N], N from 1 to {INPUTS_MAX}, all of it fixed"
        )
    };
    let shape = dimensions(input).ok_or_else(wanted)?;
    match shape[..] {
        [n] | [1, n] if (1..=INPUTS_MAX).contains(&n) => Ok(shape),
        _ => Err(wanted()),
    }
}

fn dimensions(input: &ValueInfoProto) -> Option<Vec<usize>> {
    let Kind::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
    if tensor.elem_type != FLOAT {
        return None;
    }
    let dims = &tensor.shape.as_ref()?.dim;
    dims.iter()
        .map(|dim| match dim.value.as_ref()? {
            Dim::DimValue(size) => usize::try_from(*size).ok(),
            Dim::DimParam(_) => None,
        })
        .collect()
}

/// Whether all operators and constants are of the kind that is allowed.
fn operators(graph: &GraphProto) -> Result<(), String> {
    if graph.node.len() > OPERATORS_MAX {
        return Err(format!(
            "it has {} operators; at most {OPERATORS_MAX} are run",
            graph.node.len()
        ));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err("sparse constants are not read".to_owned());
    }
    graph.initializer.iter().try_for_each(constant)?;
    let given: BTreeSet<&str> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    let mut asked: BTreeSet<&str> = graph
        .input
        .iter()
        .map(|input| input.name.as_str())
        .filter(|name| !given.contains(name))
        .collect();
    for node in &graph.node {
        operator(node)?;
        if !node.input.iter().any(|input| asked.contains(input.as_str())) {
            return Err(format!(
                "the operator {} works on constants alone: put its result there instead",
                named(node)
            ));
        }
        asked.extend(node.output.iter().map(String::as_str));
    }
    Ok(())
}

fn named(node: &NodeProto) -> String {
    short(&format!("{} '{}'", node.op_type, node.name))
}

fn operator(node: &NodeProto) -> Result<(), String> {
    if !node.domain.is_empty() || !OPERATORS.contains(&node.op_type.as_str()) {
        return Err(format!(
            "the operator {} is not run; choices: {}",
            named(node),
            OPERATORS.join(", ")
        ));
    }
    let plain = node.attribute.iter().all(|attribute| {
        attribute.g.is_none()
            && attribute.t.is_none()
            && attribute.graphs.is_empty()
            && attribute.tensors.is_empty()
            && attribute.sparse_tensor.is_none()
            && attribute.sparse_tensors.is_empty()
    });
    match plain {
        true => Ok(()),
        false => Err(format!(
            "the operator {} has more than numbers among its attributes",
            named(node)
        )),
    }
}

/// Whether a constant is here, and as large as it says.
fn constant(tensor: &TensorProto) -> Result<(), String> {
    let what = short(&format!("the constant '{}'", tensor.name));
    if tensor.data_location.unwrap_or(0) != 0 || !tensor.external_data.is_empty() {
        return Err(format!("{what} is in another file, and no other is read"));
    }
    if tensor.data_type != FLOAT {
        return Err(format!("{what} is not of 32-bit floats"));
    }
    let said = tensor
        .dims
        .iter()
        .try_fold(1_usize, |all, dim| all.checked_mul(usize::try_from(*dim).ok()?));
    let there = if tensor.raw_data.is_empty() {
        tensor.float_data.len()
    } else {
        tensor.raw_data.len() / 4
    };
    match said {
        Some(said) if said == there && there > 0 => Ok(()),
        _ => Err(format!(
            "{what} has {there} numbers, and not as many as its dimensions say"
        )),
    }
}

/// Whether what goes between operators is bounded.
fn widths(model: &TypedModel) -> Result<(), String> {
    for node in model.nodes() {
        for output in &node.outputs {
            let sizes = output.fact.shape.as_concrete();
            let width =
                sizes.and_then(|sizes| sizes.iter().try_fold(1_usize, |all, size| all.checked_mul(*size)));
            if width.is_none_or(|width| width > WIDTH_MAX) {
                return Err(format!(
                    "the operator '{}' gives more than {WIDTH_MAX} numbers, or it is not known how many",
                    short(&node.name)
                ));
            }
        }
    }
    Ok(())
}

impl Onnx {
    fn inputs(&self) -> usize {
        self.shape.iter().product()
    }

    fn run(&self, features: &[f32]) -> Result<Vec<i64>, String> {
        let tract = |error: tract_onnx::prelude::TractError| short(&format!("the model fails: {error:#}"));
        let input = Tensor::from_shape(&self.shape, features).map_err(tract)?;
        let output = self.plan.run(tvec!(input.into())).map_err(tract)?;
        let first = output.first().ok_or("the model gives nothing")?;
        let scores = first
            .try_as_plain_ram()
            .and_then(|plain| plain.as_slice::<f32>().map(<[f32]>::to_vec));
        scores.map_err(tract)?.into_iter().map(thousandths).collect()
    }

    /// What the model says to some features, in thousandths.
    fn ask(&self, features: &Array) -> Result<Vec<i64>, Box<EvalAltResult>> {
        if self.asked.fetch_add(1, Ordering::Relaxed) >= ASKS_MAX {
            return Err(failure(format!(
                "more than {ASKS_MAX} questions to the model at one packet"
            )));
        }
        let wanted = self.inputs();
        if features.len() != wanted {
            return Err(failure(format!(
                "the model takes {wanted} numbers, got {}",
                features.len()
            )));
        }
        let numbers: Option<Vec<f32>> = features
            .iter()
            .map(|value| value.as_int().ok().map(|number| number as f32))
            .collect();
        let numbers = numbers.ok_or_else(|| failure("the model takes whole numbers alone".to_owned()))?;
        self.run(&numbers).map_err(failure)
    }
}

/// Rounded, so that the last bits do not show.
fn thousandths(score: f32) -> Result<i64, String> {
    let score = (f64::from(score) * 1000.0).round();
    match score.abs() <= 1e15 {
        true => Ok(score as i64),
        false => Err("the model gives what is no number, or one too large".to_owned()),
    }
}

impl Asker for Onnx {
    fn register(&self, engine: &mut Engine) {
        let (one, all) = (self.shared(), self.shared());
        engine
            .register_fn("score", move |features: Array| {
                one.ask(&features)
                    .map(|scores| scores.first().copied().unwrap_or(0))
            })
            .register_fn("scores", move |features: Array| {
                all.ask(&features)
                    .map(|scores| scores.into_iter().map(Dynamic::from_int).collect::<Array>())
            });
    }

    fn begin(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    fn fresh(&self) -> Arc<dyn Asker> {
        Arc::new(Self {
            asked: Arc::default(),
            ..self.shared()
        })
    }
}

impl Onnx {
    fn shared(&self) -> Self {
        Self {
            plan: Arc::clone(&self.plan),
            shape: self.shape.clone(),
            asked: Arc::clone(&self.asked),
        }
    }
}
