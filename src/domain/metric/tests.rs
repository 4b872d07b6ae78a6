use super::*;

label! {
    enum Fruit = "fruit" {
        Apple = "apple",
        Pear = "pear",
    }
}

label! {
    enum Colour = "colour" {
        Red = "red",
        Green = "green",
        Yellow = "yellow",
    }
}

metric_set! {
    struct Basket {
        /// Fruits
        /// in the basket.
        fruits: Family<Counter, (Fruit, Colour)> = "pintalk_fruits_total", Count;
        /// Weight of the basket.
        weight: Gauge = "pintalk_weight", Count;
    }
}

#[test]
fn each_combination_of_label_values_has_its_own_handle() {
    let combinations = combinations(<(Fruit, Colour)>::LABELS);
    for fruit in [Fruit::Apple, Fruit::Pear] {
        for colour in [Colour::Red, Colour::Green, Colour::Yellow] {
            assert_eq!(combinations[(fruit, colour).position()], [fruit.label(), colour.label()]);
        }
    }
    assert_eq!(combinations.len(), 6);
}

#[test]
fn documentation_comment_is_the_help_text() {
    let [fruits, weight] = Basket::TABLE else { panic!("two metrics") };
    assert_eq!((fruits.help(), fruits.kind, fruits.labels.len()), ("Fruits in the basket.", MetricKind::Counter, 2));
    assert_eq!((weight.help(), weight.kind, weight.labels.len()), ("Weight of the basket.", MetricKind::Gauge, 0));
}

#[test]
fn handles_without_a_recorder_record_nothing() {
    let basket = Basket::default();
    basket.fruits.get((Fruit::Pear, Colour::Green)).increment(1);
    basket.weight.set(1.0);
}
