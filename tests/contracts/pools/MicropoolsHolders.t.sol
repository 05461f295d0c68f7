// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC6909} from "@openzeppelin/contracts/token/ERC6909/ERC6909.sol";

import {Micropools} from "../../../contracts/pools/Micropools.sol";
import {Campaign} from "../utils/Campaign.sol";
import {PoolFixture} from "./PoolFixture.sol";

/// @title A crowd at one pool, larger than it can hold, with stakes as small as they may be, and smaller
contract CrowdHandler is PoolFixture {
    uint256 public constant CROWD = 80;

    uint256 public id;
    address[] private _crowd;
    uint256 public mostHolders;
    mapping(bytes4 selector => uint256) public successes;

    constructor() {
        setUp();
        id = _open();
        for (uint256 i; i < CROWD; ++i) {
            _crowd.push(_staker(i));
        }
    }

    /// @notice How many of the crowd hold a position now.
    function holders() public view returns (uint256 count) {
        for (uint256 i; i < CROWD; ++i) {
            if (pools.balanceOf(_crowd[i], id) != 0) ++count;
        }
    }

    function micropools() external view returns (Micropools) {
        return pools;
    }

    /// Up to 16 of those without a position try with less than the minimum, then with the minimum; now and then with more.
    function enter(uint256 who, uint256 many, uint256 less, uint256 more) external {
        for (uint256 i; i <= many % 16; ++i) {
            address actor = _crowd[(who % CROWD + i) % CROWD];
            if (pools.balanceOf(actor, id) != 0) continue;
            _stakeAs(actor, 0.5 ether - bound(less, 1, 0.4 ether));
            // Of a hash, for the fuzzer likes round numbers.
            bool extra = uint256(keccak256(abi.encode(more))) % 32 == 0;
            _stakeAs(actor, 0.5 ether + (extra ? bound(more, 1, 0.6 ether) : 0));
        }
        uint256 now_ = holders();
        if (now_ > mostHolders) mostHolders = now_;
    }

    /// Gives a part of a position to somebody who may have none.
    function split(uint256 from, uint256 to, uint256 amount) external {
        address actor = _crowd[from % CROWD];
        uint256 held = pools.balanceOf(actor, id);
        if (amount % 3 == 0) amount = held;
        else if (amount % 3 == 1) amount = held / 2;
        else amount = bound(amount, 0, held);
        _as(actor, 0, abi.encodeCall(ERC6909.transfer, (_crowd[to % CROWD], id, amount)));
    }

    function leave(uint256 who, uint256 amount) external {
        // Seldom, or the pool never fills.
        if (amount % 4 != 0) return;
        address actor = _crowd[who % CROWD];
        uint256 held = pools.balanceOf(actor, id);
        amount = amount % 3 == 0 ? bound(amount, 0, held) : held;
        _as(actor, 0, abi.encodeCall(pools.leavePool, (id, amount)));
    }

    function _stakeAs(address actor, uint256 amount) private {
        vm.deal(actor, amount);
        _as(actor, amount, abi.encodeCall(pools.stake, (id)));
    }

    function _as(address actor, uint256 value, bytes memory data) private {
        vm.prank(actor);
        (bool success,) = address(pools).call{value: value}(data);
        if (success) ++successes[bytes4(data)];
    }
}

/// @notice P9 of docs/invariants.md. The other campaign has too few actors to come near the bound.
/// forge-config: default.invariant.runs = 64
/// forge-config: default.invariant.depth = 48
/// forge-config: default.invariant.shrink-run-limit = 100
contract MicropoolsHoldersTest is Campaign {
    CrowdHandler internal handler;

    function setUp() public {
        handler = new CrowdHandler();
        targetContract(address(handler));
        bytes4[] memory selectors = new bytes4[](5);
        selectors[0] = CrowdHandler.enter.selector;
        selectors[1] = CrowdHandler.enter.selector;
        selectors[2] = CrowdHandler.enter.selector;
        selectors[3] = CrowdHandler.split.selector;
        selectors[4] = CrowdHandler.leave.selector;
        targetSelector(FuzzSelector({addr: address(handler), selectors: selectors}));
    }

    function invariant_P9_a_pool_never_has_more_than_64_holders() public view {
        assertLe(handler.holders(), 64, "P9");
    }

    function afterInvariant() public {
        string[] memory actions = new string[](4);
        uint256[] memory counts = new uint256[](4);
        (actions[0], counts[0]) = ("stake", handler.successes(Micropools.stake.selector));
        (actions[1], counts[1]) = ("transfer", handler.successes(ERC6909.transfer.selector));
        (actions[2], counts[2]) = ("leavePool", handler.successes(Micropools.leavePool.selector));
        (actions[3], counts[3]) = ("a pool with 64 holders", handler.mostHolders() == 64 ? 1 : 0);
        _conclude("holders", 64, actions, counts);
    }
}
