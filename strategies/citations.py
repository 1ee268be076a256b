"""The papers that the catalogue's server rules and averages come from."""

from __future__ import annotations

from strategies.citation import Citation

MCMAHAN_2017 = Citation(
    "mcmahan2017communication",
    (
        "McMahan, H. Brendan",
        "Moore, Eider",
        "Ramage, Daniel",
        "Hampson, Seth",
        'Ag{\\"u}era y Arcas, Blaise',
    ),
    "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    2017,
    "Artificial Intelligence and Statistics (AISTATS)",
    "1602.05629",
)

LI_2020_FEDPROX = Citation(
    "li2020federated",
    (
        "Li, Tian",
        "Sahu, Anit Kumar",
        "Zaheer, Manzil",
        "Sanjabi, Maziar",
        "Talwalkar, Ameet",
        "Smith, Virginia",
    ),
    "Federated Optimization in Heterogeneous Networks",
    2020,
    "Machine Learning and Systems (MLSys)",
    "1812.06127",
)

REDDI_2021 = Citation(
    "reddi2021adaptive",
    (
        "Reddi, Sashank J.",
        "Charles, Zachary",
        "Zaheer, Manzil",
        "Garrett, Zachary",
        "Rush, Keith",
        "Kone{\\v{c}}n{\\'y}, Jakub",
        "Kumar, Sanjiv",
        "McMahan, H. Brendan",
    ),
    "Adaptive Federated Optimization",
    2021,
    "International Conference on Learning Representations (ICLR)",
    "2003.00295",
)

HSU_2019 = Citation(
    "hsu2019measuring",
    ("Hsu, Tzu-Ming Harry", "Qi, Hang", "Brown, Matthew"),
    "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
    2019,
    "",
    "1909.06335",
)

WANG_2020 = Citation(
    "wang2020tackling",
    ("Wang, Jianyu", "Liu, Qinghua", "Liang, Hao", "Joshi, Gauri", "Poor, H. Vincent"),
    "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
    2020,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2007.07481",
)

KARIMIREDDY_2020 = Citation(
    "karimireddy2020scaffold",
    (
        "Karimireddy, Sai Praneeth",
        "Kale, Satyen",
        "Mohri, Mehryar",
        "Reddi, Sashank J.",
        "Stich, Sebastian U.",
        "Suresh, Ananda Theertha",
    ),
    "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
    2020,
    "International Conference on Machine Learning (ICML)",
    "1910.06378",
)

ACAR_2021 = Citation(
    "acar2021federated",
    (
        "Acar, Durmus Alp Emre",
        "Zhao, Yue",
        "Matas Navarro, Ramon",
        "Mattina, Matthew",
        "Whatmough, Paul N.",
        "Saligrama, Venkatesh",
    ),
    "Federated Learning Based on Dynamic Regularization",
    2021,
    "International Conference on Learning Representations (ICLR)",
    "2111.04263",
)

LI_2020_FAIR = Citation(
    "li2020fair",
    ("Li, Tian", "Sanjabi, Maziar", "Beirami, Ahmad", "Smith, Virginia"),
    "Fair Resource Allocation in Federated Learning",
    2020,
    "International Conference on Learning Representations (ICLR)",
    "1905.10497",
)

JHUNJHUNWALA_2023 = Citation(
    "jhunjhunwala2023fedexp",
    ("Jhunjhunwala, Divyansh", "Wang, Shiqiang", "Joshi, Gauri"),
    "FedExP: Speeding Up Federated Averaging via Extrapolation",
    2023,
    "International Conference on Learning Representations (ICLR)",
    "2301.09604",
)

WANG_2022 = Citation(
    "wang2022communication",
    ("Wang, Yujia", "Lin, Lu", "Chen, Jinghui"),
    "Communication-Efficient Adaptive Federated Learning",
    2022,
    "International Conference on Machine Learning (ICML)",
    "2205.02719",
)

KIM_2024 = Citation(
    "kim2024communication",
    ("Kim, Geeho", "Kim, Jinkyu", "Han, Bohyung"),
    "Communication-Efficient Federated Learning with Accelerated Client Gradient",
    2024,
    "Computer Vision and Pattern Recognition (CVPR)",
    "2201.03172",
)

GAO_2022 = Citation(
    "gao2022feddc",
    (
        "Gao, Liang",
        "Fu, Huazhu",
        "Li, Li",
        "Chen, Yingwen",
        "Xu, Ming",
        "Xu, Cheng-Zhong",
    ),
    "FedDC: Federated Learning with Non-IID Data via Local Drift Decoupling and Correction",
    2022,
    "Computer Vision and Pattern Recognition (CVPR)",
    "2203.11751",
)

XU_2021 = Citation(
    "xu2021fedcm",
    ("Xu, Jing", "Wang, Sen", "Wang, Liwei", "Yao, Andrew Chi-Chih"),
    "FedCM: Federated Learning with Client-Level Momentum",
    2021,
    "",
    "2106.10874",
)

KARIMIREDDY_2020_MIME = Citation(
    "karimireddy2020mime",
    (
        "Karimireddy, Sai Praneeth",
        "Jaggi, Martin",
        "Kale, Satyen",
        "Mohri, Mehryar",
        "Reddi, Sashank J.",
        "Stich, Sebastian U.",
        "Suresh, Ananda Theertha",
    ),
    "Mime: Mimicking Centralized Stochastic Algorithms in Federated Learning",
    2020,
    "",
    "2008.03606",
)

LI_2021_TILTED = Citation(
    "li2021tilted",
    ("Li, Tian", "Beirami, Ahmad", "Sanjabi, Maziar", "Smith, Virginia"),
    "Tilted Empirical Risk Minimization",
    2021,
    "International Conference on Learning Representations (ICLR)",
    "2007.01162",
)

MOHRI_2019 = Citation(
    "mohri2019agnostic",
    ("Mohri, Mehryar", "Sivek, Gary", "Suresh, Ananda Theertha"),
    "Agnostic Federated Learning",
    2019,
    "International Conference on Machine Learning (ICML)",
    "1902.00146",
)

YE_2023 = Citation(
    "ye2023feddisco",
    ("Ye, Rui", "Xu, Mingkai", "Wang, Jianyu", "Xu, Chenxin", "Chen, Siheng", "Wang, Yanfeng"),
    "FedDisco: Federated Learning with Discrepancy-Aware Collaboration",
    2023,
    "International Conference on Machine Learning (ICML)",
    "2305.19229",
)
