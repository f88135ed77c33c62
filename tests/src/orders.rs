//! Every order in which things may happen.

/// All orders of these things.
pub fn orders<T: Clone>(things: &[T]) -> Vec<Vec<T>> {
    let Some((last, others)) = things.split_last() else { return vec![Vec::new()] };
    let insert = |order: Vec<T>| {
        (0..things.len()).map(move |place| {
            let mut order = order.clone();
            order.insert(place, last.clone());
            order
        })
    };
    orders(others).into_iter().flat_map(insert).collect()
}
