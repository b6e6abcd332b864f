module.exports = [{ item: 'tea', price: 3 }, { item: 'cake', price: 5 }];
