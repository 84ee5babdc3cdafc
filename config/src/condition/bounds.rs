//! What an expression may contain, checked once when it is read.

use std::collections::BTreeSet;

use cel::{
    Context, IdedExpr, Value,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr},
};

use super::{ConditionError, ENVIRONMENT};

/// The most nodes of an expression.
pub(super) const MAX_NODES: usize = 256;
/// The deepest nesting of an expression.
pub(super) const MAX_DEPTH: u16 = 32;
/// The longest regular expression, in bytes: it is compiled for every evaluation.
const MAX_PATTERN: usize = 128;

const REQUEST_FIELDS: [&str; 5] = ["method", "host", "port", "path", "query"];
const CALLER_FIELDS: [&str; 7] = [
    "cluster",
    "namespace",
    "serviceAccount",
    "spiffeId",
    "pod",
    "labels",
    "cronJob",
];

/// Operators, by the parser's names for them, and functions.
const FUNCTIONS: [&str; 43] = [
    "_?_:_",
    "_&&_",
    "_||_",
    "!_",
    "_-_",
    "_+_",
    "_*_",
    "_/_",
    "_%_",
    "_==_",
    "_!=_",
    "_>=_",
    "_<=_",
    "_>_",
    "_<_",
    "-_",
    "_[_]",
    "@in",
    "@not_strictly_false",
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "timestamp",
    "duration",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "bytes",
    "type",
];

/// What an expression reads, so that only these values are built for an evaluation.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(super) struct Uses {
    pub request: bool,
    pub query: bool,
    /// The method, the path or the query.
    pub content: bool,
    pub caller: bool,
    pub now: bool,
}

/// Which fields of the query an expression reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reads {
    /// Their names, as written in the expression.
    pub names: BTreeSet<String>,
    /// Whether it also reads the query in another way. Then every text in the expression may be a field
    /// name.
    pub any: bool,
}

/// Checks every node.
pub(super) fn check(expression: &IdedExpr) -> Result<(Uses, Reads), ConditionError> {
    let mut walk = Walk::default();
    walk.visit(expression, 1)?;
    if !may_be_bool(&expression.expr) {
        return Err(ConditionError::new("the result is not a bool"));
    }
    let mut reads = walk.reads;
    if reads.any {
        reads.names.append(&mut walk.texts);
    }
    Ok((walk.uses, reads))
}

/// False if the result is certainly not a boolean. Other mistakes show when it is evaluated.
fn may_be_bool(expression: &Expr) -> bool {
    match expression {
        Expr::Literal(literal) => matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => false,
        Expr::Ident(name) => name != "now",
        Expr::Select(select) => select.test || root(&select.operand.expr).is_none(),
        Expr::Call(call) => !matches!(
            call.func_name.as_str(),
            "_+_"
                | "_-_"
                | "_*_"
                | "_/_"
                | "_%_"
                | "-_"
                | "size"
                | "int"
                | "uint"
                | "double"
                | "string"
        ),
        Expr::Comprehension(_) => true,
    }
}

/// The name of one of our variables that has fields.
fn root(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Ident(name) if name == "request" || name == "caller" => Some(name),
        _ => None,
    }
}

#[derive(Default)]
struct Walk<'e> {
    nodes: usize,
    /// The variables of the comprehension that is being visited, if any.
    bound: Vec<&'e str>,
    uses: Uses,
    reads: Reads,
    /// Every text in the expression.
    texts: BTreeSet<String>,
}

impl<'e> Walk<'e> {
    fn visit(&mut self, node: &'e IdedExpr, depth: u16) -> Result<(), ConditionError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(ConditionError::new(
                "the expression has more than 256 parts",
            ));
        }
        if depth > MAX_DEPTH {
            return Err(ConditionError::new(
                "the expression is nested more than 32 levels deep",
            ));
        }
        match &node.expr {
            Expr::Literal(literal) => {
                if let LiteralValue::String(text) = literal {
                    self.texts.insert(text.inner().to_owned());
                }
                Ok(())
            }
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.select(select, depth),
            Expr::Call(call) => self.call(call, depth),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
            Expr::List(list) => list
                .elements
                .iter()
                .try_for_each(|element| self.visit(element, depth + 1)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, depth + 1)?;
                    self.visit(&entry.value, depth + 1)
                }
                EntryExpr::StructField(field) => self.visit(&field.value, depth + 1),
            }),
            Expr::Struct(_) => Err(ConditionError::new("there are no message types here")),
            Expr::Unspecified => Err(ConditionError::new("a part of the expression is empty")),
        }
    }

    fn ident(&mut self, name: &'e str) -> Result<(), ConditionError> {
        match name {
            _ if self.bound.contains(&name) => Ok(()),
            "now" => {
                self.uses.now = true;
                Ok(())
            }
            "request" | "caller" => Err(ConditionError(format!(
                "`{name}` must be followed by a field name"
            ))),
            _ => Err(ConditionError(format!(
                "unknown variable `{name}` (known are request, caller and now)"
            ))),
        }
    }

    fn select(&mut self, select: &'e SelectExpr, depth: u16) -> Result<(), ConditionError> {
        let operand = &select.operand;
        if self.is_query(&operand.expr) {
            self.reads.names.insert(select.field.clone());
            self.query();
            return Ok(());
        }
        let Some(root) = root(&operand.expr).filter(|name| !self.bound.contains(name)) else {
            return self.visit(operand, depth + 1);
        };
        let field = select.field.as_str();
        let known = if root == "request" {
            self.uses.request = true;
            self.uses.query |= field == "query";
            self.uses.content |= ["method", "path", "query"].contains(&field);
            self.reads.any |= field == "query";
            &REQUEST_FIELDS[..]
        } else {
            self.uses.caller = true;
            &CALLER_FIELDS[..]
        };
        if known.contains(&field) {
            return Ok(());
        }
        Err(ConditionError(format!(
            "`{root}` has no `{field}` (it has {})",
            known.join(", ")
        )))
    }

    fn call(&mut self, call: &'e CallExpr, depth: u16) -> Result<(), ConditionError> {
        let name = call.func_name.as_str();
        if !FUNCTIONS.contains(&name) {
            return Err(ConditionError(format!("unknown function `{name}`")));
        }
        if name == "matches" {
            check_pattern(call)?;
        }
        let read = match (name, &*call.args) {
            ("_[_]", [query, name]) | ("@in", [name, query]) if self.is_query(&query.expr) => {
                text(&name.expr)
            }
            _ => None,
        };
        if let Some(read) = read {
            self.reads.names.insert(read.to_owned());
            self.nodes += 1;
            self.query();
            return Ok(());
        }
        for part in call.target.as_deref().into_iter().chain(&call.args) {
            self.visit(part, depth + 1)?;
        }
        Ok(())
    }

    /// Whether it is `request.query`.
    fn is_query(&self, expression: &Expr) -> bool {
        let Expr::Select(select) = expression else {
            return false;
        };
        let request = root(&select.operand.expr).filter(|name| !self.bound.contains(name));
        request == Some("request") && select.field == "query" && !select.test
    }

    /// Counts a use of `request.query` that reads one field.
    fn query(&mut self) {
        self.uses.request = true;
        self.uses.query = true;
        self.uses.content = true;
        self.nodes += 1;
    }

    fn comprehension(
        &mut self,
        comprehension: &'e ComprehensionExpr,
        depth: u16,
    ) -> Result<(), ConditionError> {
        if !self.bound.is_empty() {
            return Err(ConditionError::new(
                "a comprehension (all, exists, exists_one, filter, map) within another is not \
                 allowed",
            ));
        }
        let ComprehensionExpr {
            iter_range,
            iter_var,
            iter_var2,
            accu_var,
            accu_init,
            loop_cond,
            loop_step,
            result,
        } = comprehension;
        self.bound.extend([iter_var.as_str(), accu_var.as_str()]);
        self.bound.extend(iter_var2.as_deref());
        // The variables are bound while the range is visited, so that a comprehension inside the range
        // is also found.
        for part in [iter_range, accu_init, loop_cond, loop_step, result] {
            self.visit(part, depth + 1)?;
        }
        self.bound.clear();
        Ok(())
    }
}

fn text(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// A pattern must be a literal, so that no caller can choose one, and it must compile.
fn check_pattern(call: &CallExpr) -> Result<(), ConditionError> {
    let Some(IdedExpr {
        expr: Expr::Literal(LiteralValue::String(pattern)),
        ..
    }) = call.args.last()
    else {
        return Err(ConditionError::new(
            "the pattern of `matches` must be a literal",
        ));
    };
    if pattern.inner().len() > MAX_PATTERN {
        return Err(ConditionError::new(
            "the pattern of `matches` is longer than 128 bytes",
        ));
    }
    let mut trial = call.clone();
    let text = IdedExpr {
        id: 0,
        expr: Expr::Literal(LiteralValue::String("".into())),
    };
    match trial.target.as_deref_mut().or(trial.args.first_mut()) {
        Some(subject) => *subject = text,
        None => return Err(ConditionError::new("`matches` needs a text to match")),
    }
    let trial = IdedExpr {
        id: 0,
        expr: Expr::Call(trial),
    };
    Value::resolve(&trial, &Context::with_env(ENVIRONMENT.clone()))
        .map(drop)
        .map_err(|_| ConditionError::new("the pattern of `matches` is not a regular expression"))
}
